"""Asks a server for streams, a fixed number at a time, and notes when each event came.

Speaks HTTP/1.0 on a connection per request: mlx_lm.server knows no other, and so all are asked in
the same way.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import msgspec

from bench.throughput.questions import Body, Conversation

_TIMEOUT = 300.0


class Reply(msgspec.Struct):
    """One answer: seconds since the request was sent, and what it was."""

    first: float
    """Until the first content."""
    gaps: list[float]
    """Between two events with content."""
    tokens: int
    """As the server counts them."""
    text: str
    prompt_tokens: int = 0
    cached: int = 0
    """Tokens of the prompt that the server had computed before."""
    greedy: bool = True


class Round(msgspec.Struct):
    """A round of conversations at one place."""

    seconds: float
    replies: dict[tuple[int, int], Reply]
    """By the conversation's number and the turn's."""

    @property
    def tokens(self) -> int:
        """All that were generated."""
        return sum(reply.tokens for reply in self.replies.values())

    @property
    def tokens_per_second(self) -> float:
        """Of all conversations together."""
        return self.tokens / self.seconds


async def ask_all(
    port: int, model: str, conversations: Sequence[Conversation], concurrency: int
) -> Round:
    """Have all conversations, `concurrency` at a time. Raises `RuntimeError` for a bad answer."""
    waiting = list(enumerate(conversations))[::-1]
    done: dict[tuple[int, int], Reply] = {}

    async def client() -> None:
        while waiting:
            number, conversation = waiting.pop()
            messages = list(conversation.history)
            for turn, question in enumerate(conversation.questions):
                messages.append({"role": "user", "content": question})
                async with asyncio.timeout(_TIMEOUT):
                    reply = await ask(port, {"model": model, **conversation.body(messages)})
                messages.append({"role": "assistant", "content": reply.text})
                reply.greedy = conversation.greedy
                done[number, turn] = reply

    began = time.perf_counter()
    async with asyncio.TaskGroup() as clients:
        for _ in range(concurrency):
            clients.create_task(client())
    return Round(time.perf_counter() - began, done)


async def ask(port: int, body: Body) -> Reply:
    """One request. Raises `RuntimeError` where the answer is no whole stream."""
    content = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(
            b"POST /v1/chat/completions HTTP/1.0\r\nhost: localhost\r\n"
            b"content-type: application/json\r\ncontent-length: %d\r\n\r\n" % len(content) + content
        )
        sent = time.perf_counter()
        head = await reader.readuntil(b"\r\n\r\n")
        if b" 200 " not in head.splitlines()[0]:
            raise RuntimeError(f"{head.splitlines()[0]!r}: {await reader.read()!r}")
        return await _read(reader, sent)
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader, sent: float) -> Reply:
    times: list[float] = []
    pieces: list[str] = []
    usage: dict[str, Any] = {}
    async for line in reader:
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            break
        event = json.loads(line[6:])
        usage = event.get("usage") or usage
        for choice in event["choices"]:
            if piece := choice["delta"].get("content"):
                times.append(time.perf_counter())
                pieces.append(piece)
    else:
        raise RuntimeError("the stream has no end mark")
    if not times or not usage.get("completion_tokens"):
        raise RuntimeError("the stream has no content, or does not say how many tokens it has")
    gaps = [after - before for before, after in pairwise(times)]
    return Reply(
        times[0] - sent,
        gaps,
        usage["completion_tokens"],
        "".join(pieces),
        prompt_tokens=usage["prompt_tokens"],
        cached=(usage.get("prompt_tokens_details") or {}).get("cached_tokens", 0),
    )
