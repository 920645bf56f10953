"""Hand an answer on to the client, piece by piece, as it comes."""

from __future__ import annotations

import time

from gateway.api.exchange import Exchange
from gateway.api.headers import for_client
from gateway.dispatch.answer import Answer

_FOR_STREAMS = [
    (b"cache-control", b"no-cache"),
    # nginx and its kin gather responses unless told otherwise.
    (b"x-accel-buffering", b"no"),
]


async def relay(answer: Answer, exchange: Exchange) -> None:
    """Send `answer`; raises `AttemptFailedError` where the engine breaks off.

    Each piece is waited for until the client's socket takes it, and only then is the next one
    asked for: a slow client slows its engine down, not the gateway's memory up.
    """
    headers = for_client(answer.headers)
    if answer.whole is not None:
        headers.append((b"content-length", b"%d" % len(answer.whole)))
        await exchange.start(answer.status, headers)
        await exchange.finish(answer.whole)
        return
    if answer.is_stream:
        exchange.record.first_token_at = time.monotonic()
        headers = [header for header in headers if header[0] != b"cache-control"]
        exchange.in_stream = True
        headers += _FOR_STREAMS
    await exchange.start(answer.status, headers)
    async for piece in answer:
        await exchange.write(piece)
    # The engine is free, and the counts are back, before the client can see the end.
    await answer.close()
    await exchange.finish()
