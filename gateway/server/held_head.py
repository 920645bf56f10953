"""A transport that lets the head of a response wait for its body, so that both go in one write.

uvicorn writes them one after the other, and each write is a system call: a tenth of what a small
answer costs. Every app here sends its first piece right after the head.

For a client that speaks HTTP/1.0 it also takes the chunks' framing off, which uvicorn puts around
every body of unknown length and HTTP/1.0 does not know (RFC 9112, section 6.1): for that client
the end of the connection is the end of the body.
"""

from __future__ import annotations

import asyncio
from typing import Any

_RESPONSE = b"HTTP/1.1 "
_INTERIM = b"HTTP/1.1 1"
_CHUNKED = b"transfer-encoding: chunked\r\n"


class HeldHead(asyncio.Transport):
    """What uvicorn's protocol needs of `transport`, with the head held until something follows."""

    __slots__ = ("_framed", "_held", "_plain", "_transport", "get_write_buffer_size", "is_closing",
                 "pause_reading", "resume_reading")  # fmt: skip

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._held = b""
        self._plain = False
        self._framed: bool | None = None
        self.is_closing = transport.is_closing  # type: ignore[method-assign]
        self.pause_reading = transport.pause_reading  # type: ignore[method-assign]
        self.resume_reading = transport.resume_reading  # type: ignore[method-assign]
        self.get_write_buffer_size = transport.get_write_buffer_size  # type: ignore[method-assign]

    def write(self, data: Any) -> None:
        if self._plain:
            data = self._unframed(data)
        held, self._held = self._held, b""
        if held:
            self._transport.write(held + data)
        elif data.startswith(_RESPONSE) and not data.startswith(_INTERIM):
            self._held = data
        else:
            self._transport.write(data)

    def speak_plainly(self) -> None:
        """The client speaks HTTP/1.0: no chunks from here on."""
        self._plain = True

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

    def _unframed(self, data: bytes) -> bytes:
        """`data`, a head, or what uvicorn writes of a body at once: one chunk, the end, or both."""
        if self._framed is None:
            self._framed = _CHUNKED in data
            return data.replace(_CHUNKED, b"", 1)
        if not self._framed:
            return data
        size, _, rest = data.partition(b"\r\n")
        return rest[: int(size, 16)]

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return self._transport.get_extra_info(name, default)
