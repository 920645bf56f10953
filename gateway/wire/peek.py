"""Read the few fields of a request that routing needs, and skip the rest.

A body is never built as a whole object: msgspec walks over what it is not asked for, so the
cost is that of scanning the bytes once, whatever the client sent along.
"""

from __future__ import annotations

import re

import msgspec

from backends.base import Endpoint
from backends.malformed import MALFORMED
from gateway.errors import BadRequest

_EMPTY = msgspec.Raw()


class Peek(msgspec.Struct, frozen=True):
    """The fields of an inference request that the gateway looks at."""

    model: str = ""
    stream: bool | None = None
    user: str | None = None
    n: int | None = None
    system: msgspec.Raw = _EMPTY
    messages: msgspec.Raw = _EMPTY
    prompt: msgspec.Raw = _EMPTY
    input: msgspec.Raw = _EMPTY
    instructions: msgspec.Raw = _EMPTY
    cache_salt: msgspec.Raw = _EMPTY
    # What not every engine can do. Raw, because what is wrong with them is an engine's to say.
    tools: msgspec.Raw = _EMPTY
    tool_choice: msgspec.Raw = _EMPTY
    response_format: msgspec.Raw = _EMPTY
    text: msgspec.Raw = _EMPTY
    logprobs: msgspec.Raw = _EMPTY
    continue_final_message: msgspec.Raw = _EMPTY
    return_token_ids: msgspec.Raw = _EMPTY
    priority: msgspec.Raw = _EMPTY
    """How urgent it is to an engine: to vLLM and those in this process, where lower goes first."""


_decode = msgspec.json.Decoder(Peek).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode

_CONTENT_FIELD = {
    Endpoint.CHAT: "messages",
    Endpoint.COMPLETIONS: "prompt",
    Endpoint.EMBEDDINGS: "input",
    Endpoint.MESSAGES: "messages",
    Endpoint.COUNT_TOKENS: "messages",
}
"""The field without which a request to the endpoint means nothing, where there is just one."""

_PROMPT_HEAD = 64
"""Bytes of a prompt that show whether it is text."""
_is_token_ids = re.compile(rb"\s*\[[\s\[]*[0-9]").match
_is_empty = re.compile(rb"(\[\s*\]|null|\"\")\Z").match


def peek(endpoint: Endpoint, body: bytes) -> Peek:
    """The routing fields of `body`; raises `BadRequest` that names the field at fault."""
    try:
        if not body.isascii():
            # The decoder looks at what it builds only: an engine would stumble over the rest.
            body.decode()
        peeked = _decode(body)
    except msgspec.ValidationError as error:
        raise _wrong_type(error) from None
    except MALFORMED as error:
        raise _not_json(body, error) from None
    if not peeked.model:
        raise BadRequest(
            "the request names no model: set `model` to one of the names in GET /v1/models",
            param="model",
            code="missing_required_parameter",
        )
    field = _CONTENT_FIELD.get(endpoint)
    if field is not None:
        _require_content(field, bytes(getattr(peeked, field)))
    return peeked


def expected_choices(peeked: Peek) -> int:
    """How many answers the request asks for: `n` of them to each prompt of a list."""
    prompts = bytes(peeked.prompt).lstrip()
    several = prompts.startswith(b"[") and prompts[1:].lstrip()[:1] in (b'"', b"[")
    return (peeked.n or 1) * (len(_decode_items(prompts)) if several else 1)


def expects_tokens(peeked: Peek) -> bool:
    """Whether the prompt, or the first of several, is given as token ids."""
    return _is_token_ids(bytes(memoryview(peeked.prompt)[:_PROMPT_HEAD])) is not None


def _require_content(field: str, raw: bytes) -> None:
    if not raw:
        raise BadRequest(
            f"the request has no `{field}`", param=field, code="missing_required_parameter"
        )
    if field == "messages" and not raw.startswith(b"["):
        raise BadRequest(
            '`messages` must be a list of messages, such as [{"role": "user", "content": "Hello"}]',
            param="messages",
            code="invalid_type",
        )
    if _is_empty(raw):
        code = "empty_string" if raw == b'""' else "empty_array"
        raise BadRequest(f"`{field}` is empty", param=field, code=code)


def _wrong_type(error: msgspec.ValidationError) -> BadRequest:
    # msgspec says: "Expected `str`, got `int` - at `$.model`".
    text, _, path = str(error).partition(" - at `$")
    param = path.rstrip("`").lstrip(".").split("[")[0] or None
    where = f"`{param}`" if param else "the request body"
    return BadRequest(
        f"{where} has the wrong type: {text[:1].lower()}{text[1:]}",
        param=param,
        code="invalid_type",
    )


def _not_json(body: bytes, error: Exception) -> BadRequest:
    if not body.strip():
        return BadRequest("the request body is empty: it must be a JSON object", code="empty_body")
    return BadRequest(f"the request body is not valid JSON: {error}", code="invalid_json")
