"""Failures of llama-server that are none: a few of them would make a sound replica look broken.

It answers 500 to some mistakes of the client, such as an image for a model that has no eyes.
Those are refused as what they are: else they would be tried again. And it answers 503 while it
loads its model, which a restarted one does between two probes.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import msgspec

from backends.base import BackendError, ByteStream, Cause, Reply, RequestRefused, Stage
from backends.engine_error import parse_error

_MISTAKES = (
    (re.compile("(image|audio|video) input is not supported|Failed to parse messages"), "messages"),
    (re.compile("Failed to parse tools"), "tools"),
    # Its JSON parser's own words: a number too large for it, such as 1e999.
    (re.compile(r"\[json\.exception\.(parse_error|out_of_range)"), None),
)
"""How the messages of a 500 begin that is the client's to mend, and the field at fault."""

_LOADING = ("unavailable_error", "Loading model")

_LONGEST_ERROR = 1 << 16
"""Bytes of a failure that are read to find out whose it is."""


async def unless_refused(reply: Reply) -> Reply:
    """`reply`, to be read from its beginning.

    Raises `RequestRefused` for a client's mistake, and a `BackendError` while the model loads.
    """
    if reply.status not in (500, 503):
        return reply
    head = b""
    try:
        async for piece in reply.body:
            head += piece
            if len(head) > _LONGEST_ERROR:
                break
        if reply.status == 500:
            _refuse_mistakes(head)
        else:
            _tell_of_loading(head)
    except BaseException:
        await reply.body.aclose()
        raise
    return msgspec.structs.replace(reply, body=_Reread(head, reply.body))


def _refuse_mistakes(body: bytes) -> None:
    message = parse_error(500, body).message
    for mistake, param in _MISTAKES:
        if mistake.match(message):
            raise RequestRefused(400, message, param=param)


def _tell_of_loading(body: bytes) -> None:
    said = parse_error(503, body)
    if (said.type, said.message) == _LOADING:
        raise BackendError(Stage.CONNECT, Cause.LOADING, "loading the model")


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
