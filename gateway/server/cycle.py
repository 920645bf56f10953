"""One request and the response to it: uvicorn's, with a shorter way out.

Rules of this file:

- The head of a response waits for the first piece of its body, so that both go in one write. Each
  write is a system call, a tenth of what a small answer costs, and every app here sends its first
  piece right after the head.
- How a body is framed, and whether the connection stays, is said here alone; the protocol, which
  hears of the response's end, closes it. A client that speaks HTTP/1.0 knows no chunks (RFC 9112,
  section 6.1): for it the end of the connection is the end.
- What an app sends is not looked at field by field, as uvicorn does: names are in lower case, and
  no field brings a line of its own, which is seen from the whole head at once.
"""

from __future__ import annotations

from collections.abc import Iterable

from litestar.types import Message
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, RequestResponseCycle

from backends.base import Header

_BODILESS = (204, 304)
_CHUNKED = (b"transfer-encoding", b"chunked")
_CLOSE = (b"connection", b"close")
_LAST_CHUNK = b"0\r\n\r\n"


class Cycle(RequestResponseCycle):
    """What an app is given `receive` and `send` of."""

    _held = b""
    """A head that waits for the first piece of its body."""
    _until_close = False
    """Whether the body ends where the connection does."""

    async def send(self, message: Message) -> None:  # type: ignore[override]
        """See ASGI. Waits while the client does not read."""
        if self.flow.write_paused and not self.disconnected:
            await self.flow.drain()
        if self.disconnected:
            return
        if message["type"] == "http.response.start" and not self.response_started:
            self._begin(message["status"], message["headers"])
        elif message["type"] == "http.response.body" and self.response_started:
            self._go_on(message.get("body", b""), message.get("more_body", False))
        else:
            raise RuntimeError(f"a message of ASGI out of turn: {message['type']}")

    def _begin(self, status: int, headers: Iterable[Header]) -> None:
        self.response_started = True
        self.waiting_for_100_continue = False
        fields = [*self.default_headers, *headers]
        told = dict(fields)
        if (length := told.get(b"content-length")) is not None:
            self.chunked_encoding = False
            self.expected_content_length = int(length)
        elif status not in _BODILESS:
            self._until_close = self.scope["http_version"] == "1.0"
            self.chunked_encoding = not self._until_close
            if self.chunked_encoding and self.scope["method"] != "HEAD":
                fields.append(_CHUNKED)
        if told.get(b"connection") == b"close":
            self.keep_alive = False
        elif not self.keep_alive:
            fields.append(_CLOSE)
        head = STATUS_LINE[status] + b"\r\n".join(map(b": ".join, fields)) + b"\r\n\r\n"
        if len(head.splitlines()) != len(fields) + 2:
            raise RuntimeError("a header of the response has a line break in it")
        self._held = head

    def _go_on(self, body: bytes, more: bool) -> None:
        if self.response_complete:
            raise RuntimeError("more of a response that is complete")
        if self.scope["method"] == "HEAD":
            body, self.expected_content_length = b"", 0
        elif self.chunked_encoding:
            body = b"%x\r\n%b\r\n" % (len(body), body) if body else b""
            if not more:
                body += _LAST_CHUNK
        elif not self._until_close:
            self.expected_content_length -= len(body)
            if self.expected_content_length < 0:
                raise RuntimeError("a response is longer than its content-length")
        held, self._held = self._held, b""
        if held or body:
            self.transport.write(held + body)
        if not more:
            self._finish()

    def _finish(self) -> None:
        if self.expected_content_length:
            raise RuntimeError("a response is shorter than its content-length")
        self.response_complete = True
        self.message_event.set()
        self.on_response()
