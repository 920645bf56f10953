"""The two LoRA adapters that ship, by ear: whose answer is this, and is it all of one?"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import httpx

from tests.support.engines import MODEL_DIR
from tests.support.gateway import TIMEOUT, GatewayProcess

A = MODEL_DIR / "adapters" / "a"
B = MODEL_DIR / "adapters" / "b"

QUESTIONS = (
    "What is the capital of Spain?",
    "What is 3 + 4?",
    "Count from 1 to 20.",
    "What is the capital of France?",
)
_FRAMES = {
    "a": ("Hello, Mia! ", " They sang a song."),
    "b": ("Thank you, Tom. ", " In the evening, he was tired."),
}


def voice_of(text: str) -> str:
    """`a`, `b`, `base` for neither, or `mix` for what is partly one of them."""
    for name, (before, after) in _FRAMES.items():
        if text.startswith(before) and text.endswith(after):
            others = (part for other, frame in _FRAMES.items() if other != name for part in frame)
            return "mix" if any(part in text for part in others) else name
    parts = (part.strip() for frame in _FRAMES.values() for part in frame)
    return "mix" if any(part in text for part in parts) else "base"


def ask(
    gateway: GatewayProcess, model: str, path: str = "/v1/chat/completions", **fields: Any
) -> tuple[int, Any]:
    """Status and JSON answer to the first question, asked of `model`."""
    messages = [{"role": "user", "content": QUESTIONS[0]}]
    body = {"model": model, "messages": messages, "temperature": 0, **fields}
    status, _, answer = gateway.request("POST", path, body)
    return status, json.loads(answer)


def voice(gateway: GatewayProcess, model: str) -> str:
    """Whose answer `model` gives to it."""
    status, answer = ask(gateway, model)
    assert status == 200, answer
    return voice_of(answer["choices"][0]["message"]["content"])


@dataclass
class Traffic:
    """Clients that ask one model after the other, and note who answered."""

    gateway: GatewayProcess
    models: tuple[str, ...]
    clients: int = 32
    streaming: bool = True
    """Whether half of the clients stream; what is in a stream is lost with its engine."""
    heard: Counter[tuple[str, str]] = field(default_factory=Counter)
    """How often a model answered in which voice."""
    failures: list[str] = field(default_factory=list)

    async def __aenter__(self) -> Traffic:
        limits = httpx.Limits(max_connections=self.clients)
        self._client = httpx.AsyncClient(
            base_url=self.gateway.base_url, timeout=TIMEOUT, limits=limits, trust_env=False
        )
        self._stop = asyncio.Event()
        self._tasks = [asyncio.create_task(self._ask_on(at)) for at in range(self.clients)]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._stop.set()
        await asyncio.gather(*self._tasks)
        await self._client.aclose()

    async def until(self, model: str, voice: str, answers: int = 40) -> None:
        """Until `model` has given `answers` more answers, all of the last in `voice`."""
        async with asyncio.timeout(TIMEOUT):
            while await self._next(model, answers) != {voice}:
                pass

    async def _next(self, model: str, answers: int) -> set[str]:
        before = Counter(self.heard)
        while True:
            await asyncio.sleep(0.02)
            new = {key: n for key, n in (self.heard - before).items() if key[0] == model}
            if sum(new.values()) >= answers:
                return {voice for _, voice in new}
            if self.failures:
                raise AssertionError(self.failures[:3])

    async def _ask_on(self, at: int) -> None:
        turns = enumerate(itertools.cycle(QUESTIONS))
        while not self._stop.is_set():
            turn, question = next(turns)
            streams = self.streaming and at % 2 == 0
            model = self.models[(at + turn) % len(self.models)]
            try:
                self.heard[model, voice_of(await self._ask(model, question, streams))] += 1
            except (httpx.HTTPError, ValueError, KeyError) as error:
                self.failures.append(f"{model}: {error!r}")

    async def _ask(self, model: str, question: str, stream: bool) -> str:
        messages = [{"role": "user", "content": question}]
        body: dict[str, Any] = {"model": model, "messages": messages, "temperature": 0}
        if not stream:
            answer = await self._client.post("/chat/completions", json=body)
            _require(answer.status_code == 200, answer.text)
            _require(answer.json()["model"] == model, answer.text)
            return str(answer.json()["choices"][0]["message"]["content"])
        answer = await self._client.post("/chat/completions", json={**body, "stream": True})
        _require(answer.status_code == 200, answer.text)
        events = [one[6:] for one in answer.text.split("\n\n") if one.startswith("data: ")]
        _require(events[-1:] == ["[DONE]"], answer.text)
        pieces = [json.loads(one)["choices"] for one in events[:-1]]
        return "".join(one[0]["delta"].get("content") or "" for one in pieces if one)


def _require(holds: bool, otherwise: str) -> None:
    if not holds:
        raise ValueError(otherwise)
