"""One request, over real HTTP, and all that its client hears."""

from __future__ import annotations

import asyncio
import json

import httpx

from bench.chaos.dialects import Dialect
from bench.chaos.judge import Heard

_DONE = "[DONE]"


async def ask(
    client: httpx.AsyncClient,
    dialect: Dialect,
    model: str,
    question: str,
    *,
    streamed: bool,
    within: float,
) -> Heard:
    """Ask `model`, and listen to the end, but no longer than `within` seconds."""
    heard = Heard()
    body = {"model": model, "temperature": 0, "stream": streamed, **dialect.asks(question)}
    if streamed:
        body |= dialect.streamed
    try:
        async with asyncio.timeout(within):
            async with client.stream("POST", dialect.path, json=body) as response:
                heard.status = response.status_code
                if streamed and heard.status == 200:
                    await _listen(response, dialect, heard)
                else:
                    _read(await response.aread(), dialect, heard)
    except TimeoutError:
        heard.hung = True
    except httpx.TransportError as error:
        heard.cut = repr(error)
    except (KeyError, TypeError, ValueError) as error:
        heard.odd = f"nobody can read it: {error!r}"
    return heard


async def _listen(response: httpx.Response, dialect: Dialect, heard: Heard) -> None:
    async for line in response.aiter_lines():
        if not line.startswith("data: "):
            continue
        data = line.removeprefix("data: ")
        if data == _DONE:
            heard.done = heard.done or dialect.ends_with_done
            continue
        event = json.loads(data)
        if event.get("error"):
            heard.error = str(event["error"])
        else:
            dialect.event(heard, event)


def _read(body: bytes, dialect: Dialect, heard: Heard) -> None:
    said = json.loads(body)
    if said.get("error"):
        heard.error = str(said["error"])
        return
    dialect.whole(heard, said)
    heard.done = True
