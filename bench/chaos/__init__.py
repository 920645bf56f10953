"""Engines that are killed, held still and swapped under load: is every answer right, or an error?

`python -m bench.chaos` runs it; docs/benchmarks.md says what it asks for and what came out.

- `schedule`: what happens when, from a seed (pure)
- `judge`: what one answer is worth (pure)
- `dialects`: how a question is asked, and what an answer says (pure)
- `ask`: one request, and what its client has heard
- `engines`, `house`: the processes, and what can be done to them
- `vitals`: what the gateway holds
"""
