"""Make one usage of the several that llama-server tells of several answers.

It counts each choice by itself: in a chat's stream with an event of its own, in the middle of
the others' text, and in a completion's with the event that ends the choice. Clients expect one
count of all, once, in an event without choices before the end mark.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec

from backends.base import BackendError, ByteStream, Cause, Endpoint, Request, Stage
from backends.malformed import MALFORMED
from backends.sse import EventCutter, EventTooLargeError, events

_USAGE = b'"usage":'
_DONE = b"[DONE]"


class _Options(msgspec.Struct):
    include_usage: bool | None = None


class _Asked(msgspec.Struct):
    n: int | None = None
    stream_options: _Options | None = None


_decode_asked = msgspec.json.Decoder(_Asked).decode
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode = msgspec.json.decode
_encode = msgspec.json.encode


def with_one_usage(request: Request, stream: ByteStream) -> ByteStream:
    """`stream`, the answer to `request`, mended where it needs to be."""
    if request.endpoint not in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        return stream
    try:
        asked = _decode_asked(request.body)
    except MALFORMED:
        return stream
    wanted = asked.stream_options is not None and asked.stream_options.include_usage
    several = (asked.n or 1) > 1 or request.endpoint is Endpoint.COMPLETIONS
    return OneUsage(stream, asked.n or 1) if wanted and several else stream


class OneUsage:
    """A stream that tells its usage once, at its end; `n` choices were asked for per prompt."""

    def __init__(self, stream: ByteStream, n: int) -> None:
        self._stream = stream
        self._n = n
        self._cutter = EventCutter()
        self._prompts: dict[int, tuple[int, int]] = {}
        """Of each prompt, its tokens and how many of them were cached."""
        self._completion_tokens = 0
        self._last: dict[str, msgspec.Raw] | None = None
        """The latest event with a usage: what the one at the end is made of."""

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        while True:
            try:
                piece = await self._stream.__anext__()
            except StopAsyncIteration:
                rest, self._cutter = self._cutter.rest, EventCutter()
                if not rest:
                    raise
                return rest
            if passed := self._take(piece):
                return passed

    async def aclose(self) -> None:
        await self._stream.aclose()

    def _take(self, piece: bytes) -> bytes:
        try:
            block = self._cutter.feed(piece)
        except EventTooLargeError as error:
            raise BackendError(Stage.STREAMING, Cause.PROTOCOL, str(error)) from error
        if _USAGE not in block and _DONE not in block:
            return block
        out, begin = [], 0
        for _, data, end in events(block):
            out.append(self._event(block[begin:end], data))
            begin = end
        return b"".join(out) + block[begin:]

    def _event(self, event: bytes, data: bytes) -> bytes:
        if data == _DONE:
            return self._total() + event
        if _USAGE not in data:
            return event
        try:
            fields = _decode_fields(data)
            choices = _decode(fields["choices"])
            self._count(_decode(fields["usage"]), choices[0]["index"] if choices else 0)
        except (*MALFORMED, KeyError, TypeError, AttributeError):
            return event  # of a shape that is not known here: the client may make sense of it
        self._last = dict(fields)
        del fields["usage"]
        return b"data: " + _encode(fields) + b"\n\n" if choices else b""

    def _count(self, usage: dict[str, Any], index: int) -> None:
        cached = (usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0)
        prompt, at = (usage["prompt_tokens"] + 0, cached + 0), index // self._n
        self._completion_tokens += usage["completion_tokens"]
        self._prompts.setdefault(at, prompt)

    def _total(self) -> bytes:
        """The event with the usage of all; nothing where none was told."""
        if self._last is None:
            return b""
        prompt = sum(tokens for tokens, _ in self._prompts.values())
        usage = {
            "completion_tokens": self._completion_tokens,
            "prompt_tokens": prompt,
            "total_tokens": prompt + self._completion_tokens,
            "prompt_tokens_details": {
                "cached_tokens": sum(cached for _, cached in self._prompts.values())
            },
        }
        whole = {**self._last, "choices": [], "usage": usage}
        self._last = None
        return b"data: " + _encode(whole) + b"\n\n"
