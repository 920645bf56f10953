"""What an engine can be asked for: the one table that routing, errors, tests and docs use.

Rules of this file:

- A capability is something that a request visibly asks for and that some engine lacks. What
  every engine has (stop strings, seeds, `max_tokens`) is none.
- An adapter claims what its kind of engine can at most. Only what it does not claim is a definite
  no: then the gateway asks somebody else. For all the rest the engine has the last word.
"""

from __future__ import annotations

from enum import StrEnum


class Capability(StrEnum):
    """Something that not every engine can do; the value is its name in routing.yaml and docs."""

    CHAT = "chat"
    """`/v1/chat/completions`"""
    COMPLETIONS = "completions"
    """`/v1/completions`"""
    RESPONSES = "responses"
    """`/v1/responses`, natively"""
    MESSAGES = "messages"
    """`/v1/messages`, natively"""
    COUNT_TOKENS = "count_tokens"
    """`/v1/messages/count_tokens`, natively"""
    EMBEDDINGS = "embeddings"
    """`/v1/embeddings`"""
    RERANK = "rerank"
    """`/v1/rerank`"""
    TOOLS = "tools"
    """`tools`, from which the model may choose"""
    FORCED_TOOLS = "forced_tools"
    """`tool_choice`: `required`, or a tool by name"""
    JSON_OBJECT = "json_object"
    """`response_format` `json_object`"""
    JSON_SCHEMA = "json_schema"
    """`response_format` `json_schema`; `text.format` of responses"""
    LOGPROBS = "logprobs"
    """`logprobs`, `top_logprobs`"""
    PREFILL = "prefill"
    """`continue_final_message`: the answer goes on where the last message ends"""
    N = "n"
    """`n` above 1"""
    TOKEN_PROMPTS = "token_prompts"
    """a `prompt` of token ids"""
    TOKEN_IDS = "token_ids"
    """`return_token_ids`: the answer with its token ids"""
    IMAGES = "images"
    """image parts in messages"""


GENERATION = frozenset(
    {
        Capability.CHAT,
        Capability.COMPLETIONS,
        Capability.TOOLS,
        Capability.N,
        Capability.TOKEN_PROMPTS,
    }
)
"""What every engine here can that generates text."""

EVERYTHING = frozenset(Capability)
"""What is claimed for a server of which nothing is known: it is asked, and says no itself."""
