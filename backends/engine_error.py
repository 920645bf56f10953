"""Read what an engine says went wrong, in whatever shape it says it.

Seen in the field: OpenAI's `{"error": {"message", "type", "code"}}` with `code` a string or a
number, vLLM's older flat `{"object": "error", "message"}`, FastAPI's `{"detail": …}`,
Anthropic's `{"type": "error", "error": {…}}`, `{"error": "text"}`, and plain text.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from backends.malformed import MALFORMED

CONTEXT_LENGTH_EXCEEDED = "context_length_exceeded"

NO_REASON = "the engine gave no reason"
_CONTEXT_TYPES = ("exceed_context_size_error", CONTEXT_LENGTH_EXCEEDED)
_CONTEXT_PHRASES = ("maximum context length", "context window", "exceeds the available context")


class EngineError(msgspec.Struct, frozen=True):
    """One error as an engine told it."""

    message: str
    type: str | None = None
    code: str | None = None
    param: str | None = None
    status: int | None = None
    """The HTTP status it names or came with, if any."""
    told: dict[str, Any] | None = None
    """All of it, where it was an object."""

    @property
    def is_clients_own(self) -> bool:
        """Whether the request itself is at fault, so that nobody else would take it either."""
        status = self.status
        return status is not None and 400 <= status < 500 and status not in (408, 429)

    def without(self, hide: Callable[[bytes], bytes]) -> EngineError:
        """The same, with all of its texts as `hide` leaves them; it is given them as JSON."""
        try:
            return msgspec.json.decode(hide(msgspec.json.encode(self)), type=EngineError)
        except MALFORMED:  # nothing is told that could not be looked through
            return EngineError(NO_REASON, status=self.status)


def parse_error(status: int | None, body: bytes) -> EngineError:
    """The error in `body`; where nothing can be read, the beginning of the body stands for it."""
    try:
        said = msgspec.json.decode(body)
    except MALFORMED:
        text = body[:300].decode("utf-8", "replace").strip()
        return EngineError(text or NO_REASON, status=status)
    return _from_fields(status, _unwrap(said))


def is_error_object(body: bytes) -> bool:
    """Whether `body` is an error in the shape that OpenAI's clients understand."""
    try:
        said = msgspec.json.decode(body)
    except MALFORMED:
        return False
    return _unwrap(said) is not said


def _unwrap(said: Any) -> Any:
    if isinstance(said, dict):
        if isinstance(said.get("response"), dict):  # the responses dialect's `response.failed`
            said = said["response"]
        if said.get("error"):
            return said["error"]
    return said


def _from_fields(status: int | None, said: Any) -> EngineError:
    if not isinstance(said, dict):
        return EngineError(_text(said) or NO_REASON, status=status)
    message = _text(said.get("message") or said.get("detail")) or NO_REASON
    kind = said.get("type") if isinstance(said.get("type"), str) else None
    code = said.get("code")
    if isinstance(code, int) and 400 <= code <= 599:
        status = status or code
    named = code if isinstance(code, str) and not code.isdigit() else None
    if kind in _CONTEXT_TYPES or any(phrase in message for phrase in _CONTEXT_PHRASES):
        named = CONTEXT_LENGTH_EXCEEDED
    param = said.get("param") if isinstance(said.get("param"), str) else None
    return EngineError(message, type=kind, code=named, param=param, status=status, told=said)


def _text(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    return msgspec.json.encode(value).decode()
