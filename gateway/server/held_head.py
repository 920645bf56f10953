"""A transport that lets the head of a response wait for its body, so that both go in one write.

uvicorn writes them one after the other, and each write is a system call: a tenth of what a small
answer costs. Every app here sends its first piece right after the head.
"""

from __future__ import annotations

import asyncio
from typing import Any

_RESPONSE = b"HTTP/1.1 "
_INTERIM = b"HTTP/1.1 1"


class HeldHead(asyncio.Transport):
    """What uvicorn's protocol needs of `transport`, with the head held until something follows."""

    __slots__ = ("_held", "_transport", "get_write_buffer_size", "is_closing", "pause_reading",
                 "resume_reading")  # fmt: skip

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.get_write_buffer_size = transport.get_write_buffer_size  # type: ignore[method-assign]

    def write(self, data: Any) -> None:
        held, self._held = self._held, b""
        if held:
            self._transport.write(held + data)
        elif data.startswith(_RESPONSE) and not data.startswith(_INTERIM):
            self._held = data
        else:
            self._transport.write(data)

    def flush(self) -> None:
        """Write the head of a response that has no body."""
        held, self._held = self._held, b""
        if held:
            self._transport.write(held)

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def abort(self) -> None:
        self._transport.abort()

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
