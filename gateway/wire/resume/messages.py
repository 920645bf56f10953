"""Going on with a stream of `/v1/messages`: blocks, one after the other, each with its number."""

from __future__ import annotations

from typing import Any

from gateway.wire.resume.transcript import (
    DivergedError,
    Had,
    Splice,
    Transcript,
    as_object,
    decode,
    encode,
)

_THINKING = ("thinking", "redacted_thinking")
_START, _STOP = "content_block_start", "content_block_stop"
_LAST = b'event: message_stop\ndata: {"type":"message_stop"}\n\n'
_TEXTS = ("text", "thinking", "partial_json", "signature")
"""Fields of a delta with text."""


class MessagesTranscript(Transcript):
    """What a client has had of a message. Its id is in the first event alone."""

    def __init__(self) -> None:
        super().__init__()
        self._begun: dict[Any, dict[str, Any]] = {}
        """What each block is, by its number."""

    @property
    def ending(self) -> bytes | None:
        """See `Transcript.ending`."""
        marks = self.had.marks
        if ("message_delta", None) not in marks:
            return None
        return b"" if ("message_stop", None) in marks else _LAST

    @property
    def plain_text(self) -> str | None:
        """See `Transcript.plain_text`."""
        had = self.had
        first = (0, "text")
        if not had.channels <= {first} or (_START, 1) in had.marks:
            return None
        return had.text(first)

    def splice(self, *, continued: bool = False) -> Splice:
        """See `Transcript.splice`."""
        return _MessagesSplice(self.had, dict(self._begun), continued=continued)

    def _note(self, name: bytes, data: bytes) -> None:
        if data == b"[DONE]":
            return
        event = as_object(decode(data))
        kind = _kind(name, event)
        if kind == "content_block_delta":
            for channel, text in _texts(event).items():
                self._had.add(channel, text)
            self._had.pieces += 1
            self._incomparable = self._incomparable or _has_more(event)
        elif kind != "ping":
            self._had.marks.add(_mark(kind, event))
            if kind == _START:
                self._begun[event.get("index")] = _block(event)


class _MessagesSplice(Splice):
    def __init__(self, had: Had, begun: dict[Any, dict[str, Any]], *, continued: bool) -> None:
        super().__init__(had)
        self._begun = begun
        self._continued = continued

    def _event(self, name: bytes, data: bytes) -> bytes:
        if data == b"[DONE]":
            return b"data: [DONE]\n\n"
        event = as_object(decode(data))
        kind = _kind(name, event)
        if kind == "content_block_delta":
            return self._delta(name, event)
        if kind == "ping":
            return b""
        if not self._left.had(_mark(kind, event)):
            if self._continued and _block(event).get("type") in _THINKING:
                raise DivergedError("thinking behind the text that it was to go on from")
            return _written(name, event)
        if kind == _START and _block(event) != self._begun.get(event.get("index")):
            raise DivergedError("a block of another kind")
        return b""

    def _delta(self, name: bytes, event: dict[str, Any]) -> bytes:
        delta, lacks = as_object(event.get("delta")), _has_more(event)
        for channel, text in _texts(event).items():
            new = self._left.take(channel, text)
            delta[channel[1]] = new
            lacks = lacks or bool(new)
        if lacks and self._left.had((_STOP, event.get("index"))):
            raise DivergedError("more of a block that was at its end")
        return _written(name, event) if lacks else b""


def _kind(name: bytes, event: dict[str, Any]) -> str:
    return event.get("type") or name.decode("utf-8", "replace")


def _mark(kind: str, event: dict[str, Any]) -> tuple[str, Any]:
    return kind, event.get("index")


def _texts(event: dict[str, Any]) -> dict[tuple[Any, str], str]:
    """What a delta says, by block and field."""
    delta, block = as_object(event.get("delta")), event.get("index")
    said = {(block, field): delta.get(field) for field in _TEXTS}
    return {channel: text for channel, text in said.items() if isinstance(text, str) and text}


def _has_more(event: dict[str, Any]) -> bool:
    """Whether there is something in a delta that is no text, as a citation is."""
    delta = as_object(event.get("delta"))
    return any(
        value and not (field in _TEXTS and isinstance(value, str))
        for field, value in delta.items()
        if field != "type"
    )


def _block(event: dict[str, Any]) -> dict[str, Any]:
    """What a block is that begins: all that is said of it, but for the id that a try makes up."""
    block = as_object(event.get("content_block"))
    return {field: value for field, value in block.items() if value and field != "id"}


def _written(name: bytes, event: dict[str, Any]) -> bytes:
    """`event` as it goes out, with its name where it has one."""
    return b"%sdata: %s\n\n" % (b"event: %s\n" % name if name else b"", encode(event))
