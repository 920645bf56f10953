"""How soon an engine is free after a client has left: during a stream, and before any answer.

Closing a reply, or cancelling `send`, is the only way work is cancelled. Whether the engine has
stopped is read from what it says of its own load; where it says nothing, nothing can be told.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Mapping

from backends.base import BackendError, Endpoint, Request
from gateway.conform.asking import Target, awake, request, send
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


async def leave(target: Target, name: str) -> Finding:
    """Measure the departure called `name`; the detail says how long the engine went on."""
    try:
        await awake(target)
        if await target.backend.demand(target.address) is None:
            raise UnclearError("the engine does not say how busy it is")
        took = await DEPARTURES[name](target)
    except BackendError as error:
        return Finding(target.name, name, Outcome.UNCLEAR, error.message)
    except UnclearError as unclear:
        return Finding(target.name, name, Outcome.UNCLEAR, str(unclear))
    except BrokenPromiseError as broken:
        return Finding(target.name, name, Outcome.BROKEN, str(broken))
    return Finding(target.name, name, Outcome.KEPT, f"free after {took * 1000:.0f} ms")


async def _during_a_stream(target: Target) -> float:
    try:
        async with asyncio.timeout(_BUSY_WITHIN):
            asked = request(target, Endpoint.CHAT, _FIELDS, stream=True)
            reply = await send(target, asked)
            try:
                require(reply.status == 200, f"the stream is answered with HTTP {reply.status}")
                await anext(reply.body, b"")
                await _until_busy(target)
            finally:
                left = time.monotonic()
                await reply.body.aclose()
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
    reply = await send(target, asked)
    try:
        async for _ in reply.body:
            pass
    finally:
        await reply.body.aclose()


async def _until_busy(target: Target, sent: asyncio.Future[None] | None = None) -> None:
    while not await _is_busy(target):
        if sent is not None and sent.done():
            raise UnclearError("the answer was there before the client could leave")
        await asyncio.sleep(_LOOK_EVERY)


async def _until_free(target: Target, left: float) -> float:
    """Seconds from `left` until nothing is at work any more."""
    try:
        while await _is_busy(target):
            if time.monotonic() - left > FREE_WITHIN:
                raise BrokenPromiseError(
                    f"still at work {FREE_WITHIN:g} s after the client has left"
                )
            await asyncio.sleep(_LOOK_EVERY)
    except UnclearError as silent:
        raise BrokenPromiseError(f"since the client has left, {silent}") from silent
    return time.monotonic() - left


async def _is_busy(target: Target) -> bool:
    """Whether anything is at work, or waits.

    Raises `UnclearError` where the engine, which has told it before, does so no more.
    """
    silent_from = time.monotonic()
    while (demand := await target.backend.demand(target.address)) is None:
        if time.monotonic() - silent_from > FREE_WITHIN:
            raise UnclearError(f"it has not said for {FREE_WITHIN:g} s how busy it is")
        await asyncio.sleep(_LOOK_EVERY)
    return demand.running + demand.waiting > 0


DEPARTURES: Mapping[str, Callable[[Target], Awaitable[float]]] = {
    "cancel: stream": _during_a_stream,
    "cancel: whole": _before_an_answer,
}
"""By the name in the report."""
