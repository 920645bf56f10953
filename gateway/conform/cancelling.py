"""How soon an engine is free after a client has left: during a stream, and before any answer.

Closing a reply, or cancelling `send`, is the only way work is cancelled. Whether the engine has
stopped is read from what it says of its own load; where it says nothing, nothing can be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Awaitable, Callable, Mapping

from backends.base import Backend, BackendError, Endpoint, Request
from backends.launch.backend import LaunchedBackend
from backends.openai_http import OpenAIHttpBackend
from gateway.conform.asking import Target, request
from gateway.conform.finding import (
    BrokenPromiseError,
    Finding,
    Outcome,
    UnclearError,
    require,
)
from gateway.conform.probes import chat

FREE_WITHIN = 5.0
"""Seconds after which an engine that still works for nobody has broken its promise."""
_BUSY_WITHIN = 60.0
"""Seconds in which a request must have begun: a cold engine may have to load."""
_LOOK_EVERY = 0.01
_TOKENS = 1500
"""More than any machine makes before the client leaves."""
_FIELDS = chat("Tell me a long story.", max_tokens=_TOKENS, ignore_eos=True)
_LOAD = re.compile(
    rb"^(?:vllm:num_requests_(?:running|waiting)|llamacpp:requests_(?:processing|deferred)"
    rb"|sglang:num_(?:running|queue)_reqs)(?:\{[^}]*\})? ([0-9.e+]+)$",
    re.MULTILINE,
)
"""Samples of engines' own metrics that count requests at work or waiting."""


async def busy(backend: Backend, address: str) -> float | None:
    """Sequences or requests at work and waiting; None where the engine does not tell."""
    if backend.load(address) is not None:
        await backend.probe(address)  # one in a process of its own tells it when it is looked at
        load = backend.load(address)
        return None if load is None else load.running + load.waiting
    if not isinstance(backend, OpenAIHttpBackend | LaunchedBackend):
        return None
    try:
        async with asyncio.timeout(FREE_WITHIN):
            status, body = await backend.get(address, "/metrics")
    except (BackendError, TimeoutError):
        return None
    counts = [float(count) for count in _LOAD.findall(body)]
    return sum(counts) if status == 200 and counts else None


async def leave(target: Target, name: str) -> Finding:
    """Measure the departure called `name`; the detail says how long the engine went on."""
    try:
        if await busy(target.backend, target.address) is None:
            raise UnclearError("the engine does not say how busy it is")
        took = await DEPARTURES[name](target)
    except UnclearError as unclear:
        return Finding(target.name, name, Outcome.UNCLEAR, str(unclear))
    except BrokenPromiseError as broken:
        return Finding(target.name, name, Outcome.BROKEN, str(broken))
    return Finding(target.name, name, Outcome.KEPT, f"free after {took * 1000:.0f} ms")


async def _during_a_stream(target: Target) -> float:
    try:
        async with asyncio.timeout(_BUSY_WITHIN):
            asked = request(target, Endpoint.CHAT, _FIELDS, stream=True)
            reply = await target.backend.send(target.address, asked)
            try:
                require(reply.status == 200, f"the stream is answered with HTTP {reply.status}")
                await anext(reply.body, b"")
                await _until_busy(target)
            finally:
                left = time.monotonic()
                await reply.body.aclose()
    except BackendError as error:
        raise UnclearError(error.message) from error
    except TimeoutError as error:
        raise UnclearError(f"the stream did not begin within {_BUSY_WITHIN:g} s") from error
    return await _until_free(target, left)


async def _before_an_answer(target: Target) -> float:
    asked = request(target, Endpoint.CHAT, _FIELDS)
    sent = asyncio.ensure_future(_send_and_wait(target, asked))
    try:
        async with asyncio.timeout(_BUSY_WITHIN):
            await _until_busy(target, sent)
    except TimeoutError as error:
        raise UnclearError(f"the request did not begin within {_BUSY_WITHIN:g} s") from error
    finally:
        left = time.monotonic()
        sent.cancel()
        with contextlib.suppress(asyncio.CancelledError, BackendError):
            await sent
    return await _until_free(target, left)


async def _send_and_wait(target: Target, asked: Request) -> None:
    reply = await target.backend.send(target.address, asked)
    try:
        async for _ in reply.body:
            pass
    finally:
        await reply.body.aclose()


async def _until_busy(target: Target, sent: asyncio.Future[None] | None = None) -> None:
    while not await busy(target.backend, target.address):
        if sent is not None and sent.done():
            raise UnclearError("the answer was there before the client could leave")
        await asyncio.sleep(_LOOK_EVERY)


async def _until_free(target: Target, left: float) -> float:
    """Seconds from `left` until nothing is at work any more."""
    while await busy(target.backend, target.address):
        if time.monotonic() - left > FREE_WITHIN:
            raise BrokenPromiseError(f"still at work {FREE_WITHIN:g} s after the client has left")
        await asyncio.sleep(_LOOK_EVERY)
    return time.monotonic() - left


DEPARTURES: Mapping[str, Callable[[Target], Awaitable[float]]] = {
    "cancel: stream": _during_a_stream,
    "cancel: whole": _before_an_answer,
}
"""By the name in the report."""
