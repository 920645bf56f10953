"""Failures of llama-server that are the client's to mend.

It answers 500 to some mistakes of the client, such as an image for a model that has no eyes.
Those are refused as what they are: else they would be tried again, and a few of them would make
a sound replica look broken.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import msgspec

from backends.base import ByteStream, Reply, RequestRefused
from backends.engine_error import parse_error

_MISTAKES = (
    (re.compile("(image|audio|video) input is not supported|Failed to parse messages"), "messages"),
    (re.compile("Failed to parse tools"), "tools"),
    # Its JSON parser's own words: a number too large for it, such as 1e999.
    (re.compile(r"\[json\.exception\.(parse_error|out_of_range)"), None),
)
"""How the messages of a 500 begin that is the client's to mend, and the field at fault."""

_LONGEST_ERROR = 1 << 16
"""Bytes of a failure that are read to find out whose it is."""


async def unless_refused(reply: Reply) -> Reply:
    """`reply`, to be read from its beginning; raises `RequestRefused` for a client's mistake."""
    if reply.status != 500:
        return reply
    head = b""
    try:
        async for piece in reply.body:
            head += piece
            if len(head) > _LONGEST_ERROR:
                break
        _refuse_mistakes(head)
    except BaseException:
        await reply.body.aclose()
        raise
    return msgspec.structs.replace(reply, body=_Reread(head, reply.body))


def _refuse_mistakes(body: bytes) -> None:
    message = parse_error(500, body).message
    for mistake, param in _MISTAKES:
        if mistake.match(message):
            raise RequestRefused(400, message, param=param)


class _Reread:
    """A stream of which the beginning has been read already."""

    def __init__(self, head: bytes, rest: ByteStream) -> None:
        self._head = head
        self._rest = rest

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        head, self._head = self._head, b""
        return head or await anext(self._rest)

    async def aclose(self) -> None:
        self._head = b""
        await self._rest.aclose()
