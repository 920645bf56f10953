"""`/v1/responses`: the last event holds the whole answer."""

from __future__ import annotations

from typing import Any

import msgspec

from backends.assemble.assembler import Assembler, BrokenStreamError, read_error

_FINAL = ("response.completed", "response.incomplete")
_FAILED = ("error", "response.failed", "response.error")


class _Event(msgspec.Struct):
    type: str = ""
    response: msgspec.Raw = msgspec.Raw()


_decode = msgspec.json.Decoder(_Event).decode


class ResponsesAssembler(Assembler):
    """Passes over everything but the event that ends the stream."""

    def __init__(self) -> None:
        super().__init__()
        self._response: dict[str, Any] | None = None

    def answer(self) -> dict[str, Any]:
        if self._response is None:
            raise BrokenStreamError("the stream ended without response.completed")
        return self._response

    def _event(self, name: bytes, data: bytes, /) -> None:
        if data == b"[DONE]":
            return
        event = _decode(data)
        kind = event.type or name.decode("utf-8", "replace")
        if kind in _FINAL:
            self._response = msgspec.json.decode(event.response, type=dict[str, Any])
            self.size = len(data)
        elif kind in _FAILED or not kind:
            raise read_error(data)
