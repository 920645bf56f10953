"""One request, over real HTTP, and all that its client hears."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx

from bench.chaos.judge import Heard

_DONE = "[DONE]"


async def ask(
    client: httpx.AsyncClient, model: str, question: str, *, streamed: bool, within: float
) -> Heard:
    """Ask `model`, and listen to the end, but no longer than `within` seconds."""
    heard = Heard(streamed)
    body: dict[str, Any] = {
        "model": model,
        "messages": [{"role": "user", "content": question}],
        "temperature": 0,
        "max_tokens": 400,
    }
    if streamed:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    try:
        async with asyncio.timeout(within):
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                heard.status = response.status_code
                if streamed and heard.status == 200:
                    await _listen(response, heard)
                else:
                    _read(await response.aread(), heard)
    except TimeoutError:
        heard.hung = True
    except httpx.TransportError as error:
        heard.cut = repr(error)
    return heard


async def _listen(response: httpx.Response, heard: Heard) -> None:
    async for line in response.aiter_lines():
        if not line.startswith("data: "):
            continue
        data = line.removeprefix("data: ")
        if data == _DONE:
            heard.done = True
            continue
        event = json.loads(data)
        if "error" in event:
            heard.error = str(event["error"])
        for choice in event.get("choices", ()):
            heard.text += choice["delta"].get("content") or ""
            heard.finish = choice.get("finish_reason") or heard.finish
        if event.get("usage"):
            heard.tokens = event["usage"]["completion_tokens"]


def _read(body: bytes, heard: Heard) -> None:
    try:
        said = json.loads(body)
    except ValueError:
        heard.text = body.decode("utf-8", "replace")
        return
    if "error" in said:
        heard.error = str(said["error"])
        return
    choice = said["choices"][0]
    heard.text, heard.finish = choice["message"]["content"], choice["finish_reason"]
    heard.tokens = said["usage"]["completion_tokens"]
    heard.done = True
