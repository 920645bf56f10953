"""`/v1/messages`: a message that starts empty, blocks by index, and an end that says why."""

from __future__ import annotations

from typing import Any

import msgspec

from backends.assemble.assembler import Assembler, BrokenStreamError, read_error
from backends.malformed import MALFORMED

_JOINED = {
    "text_delta": ("text", "text"),
    "thinking_delta": ("thinking", "thinking"),
    "signature_delta": ("signature", "signature"),
    "input_json_delta": ("partial_json", "input"),
}
"""Per kind of delta: the field that holds its piece, and the block's field that it belongs to."""


class _Event(msgspec.Struct):
    type: str = ""
    index: int = 0
    message: dict[str, Any] = {}
    content_block: dict[str, Any] = {}
    delta: dict[str, Any] = {}
    usage: dict[str, Any] = {}


_decode = msgspec.json.Decoder(_Event).decode


class _Block:
    def __init__(self, start: dict[str, Any]) -> None:
        self.fields = start
        self.pieces: dict[str, list[str]] = {}

    def whole(self) -> dict[str, Any]:
        block = dict(self.fields)
        for name, pieces in self.pieces.items():
            text = "".join(pieces)
            if name == "input":
                block["input"] = _arguments(text)
            else:
                begun = block.get(name)
                block[name] = begun + text if isinstance(begun, str) else text
        if block.get("type") == "tool_use":
            block.setdefault("input", {})
        return block


class MessagesAssembler(Assembler):
    """Follows Anthropic's events, as its streaming documentation describes them."""

    def __init__(self) -> None:
        super().__init__()
        self._message: dict[str, Any] = {}
        self._usage: dict[str, Any] = {}
        self._blocks: dict[int, _Block] = {}

    def answer(self) -> dict[str, Any]:
        if not self._message.get("stop_reason"):
            raise BrokenStreamError("the stream ended without a stop reason")
        blocks = [self._blocks[index].whole() for index in sorted(self._blocks)]
        return {**self._message, "content": blocks, "usage": self._usage}

    def _event(self, name: bytes, data: bytes, /) -> None:
        if data == b"[DONE]":
            return
        event = _decode(data)
        match event.type or name.decode("utf-8", "replace"):
            case "content_block_delta":
                self._piece(event)
            case "content_block_start":
                # llama-server may begin a block again with the last of its pieces.
                self._blocks.setdefault(event.index, _Block(event.content_block))
                self.size += len(data)
            case "message_start":
                self._message = event.message
                usage = event.message.get("usage")
                self._usage = usage if isinstance(usage, dict) else {}
            case "message_delta":
                self._message.update(event.delta)
                self._usage.update(event.usage)
            case "error" | "":
                raise read_error(data)

    def _piece(self, event: _Event) -> None:
        block = self._blocks.get(event.index)
        if block is None:
            raise BrokenStreamError(f"a piece of block {event.index}, which has not begun")
        kind = str(event.delta.get("type"))
        if kind in _JOINED:
            source, target = _JOINED[kind]
            piece = event.delta.get(source)
            if not isinstance(piece, str):
                raise BrokenStreamError(f"a {kind} without {source}")
            block.pieces.setdefault(target, []).append(piece)
            self.size += len(piece)
        elif kind == "citations_delta":
            begun = block.fields.get("citations")
            so_far = begun if isinstance(begun, list) else []
            block.fields["citations"] = [*so_far, event.delta.get("citation")]


def _arguments(text: str) -> Any:
    """A tool's input; empty where the answer was cut off in the midst of it."""
    try:
        return msgspec.json.decode(text) if text else {}
    except MALFORMED:
        return {}
