"""Hold engines to what they promise: the same questions to each, and a judgement of the answers.

One set of checks, for `gateway conform` and for the contract tests alike.

- `asking`: one question to one replica, and its answer whatever becomes of it
- `stream`: whether a stream of server-sent events is well-formed
- `probes`: a question for each capability, and what its answer says
- `promises`: what every engine has to keep
- `cancelling`: how soon an engine is free after a client has left
- `agreement`: how far engines say the same
- `examine`: all of it for one replica
- `report`: what came of it, as a table
"""
