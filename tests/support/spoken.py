"""What a stream has said, in any dialect: what must be the same, however it was made."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import httpx


class Spoken:
    """One streamed answer, event by event."""

    def __init__(self) -> None:
        self.events = 0
        self.text: dict[str, str] = {}
        """By channel: content, arguments, …"""
        self.reasons: list[str] = []
        self.places: list[tuple[int, str]] = []
        """Tokens, and where in the text each is said to be."""
        self.usage: list[tuple[int, int]] = []
        """Prompt and completion tokens."""
        self.ids: set[str] = set()
        self.once: list[str] = []
        """What happens once, in order: roles, begins and ends."""
        self.error: Any = None
        self.done = False

    @property
    def told(self) -> dict[str, Any]:
        """What must be equal in two answers to the same request."""
        return {
            "text": self.text,
            "misplaced": self.misplaced,
            "reasons": self.reasons,
            "usage": self.usage,
            "once": self.once,
            "ids": len(self.ids),
            "done": self.done,
            "error": self.error,
        }

    @property
    def told_by_any(self) -> dict[str, Any]:
        """The same, whatever kind of engine has answered: they count the prompt at other times."""
        return {**self.told, "usage": [tokens for _, tokens in self.usage[-1:]]}

    @property
    def misplaced(self) -> list[tuple[int, str]]:
        """Tokens that are not where they are said to be; vLLM puts its end mark behind the text."""
        text = self.text.get("content", "")
        return [
            (at, token)
            for at, token in self.places
            if at != len(text) and not text.startswith(token, at)
        ]

    def take(self, name: str, data: str) -> None:
        """One more event."""
        self.events += 1
        if data == "[DONE]":
            self.done = True
            return
        event = json.loads(data)
        if event.get("error") or name == "error":
            self.error = event
        elif "type" not in event:
            self._chunk(event)
        elif event["type"].startswith("response."):
            self._of_response(event)
        else:
            self._of_message(event)

    def _say(self, channel: str, text: str | None) -> None:
        if text:
            self.text[channel] = self.text.get(channel, "") + text

    def _count(self, usage: dict[str, Any]) -> None:
        prompt = usage.get("prompt_tokens", usage.get("input_tokens", 0))
        cached = usage.get("cache_read_input_tokens", 0)
        self.usage.append(
            (prompt + cached, usage.get("completion_tokens", usage.get("output_tokens", 0)))
        )

    def _chunk(self, chunk: dict[str, Any]) -> None:
        self.ids.add(f"{chunk['id']} {chunk['model']}")
        if chunk.get("usage"):
            self._count(chunk["usage"])
        for choice in chunk["choices"]:
            part = choice.get("delta", choice)
            self._say("content", part.get("content") or part.get("text"))
            for call in part.get("tool_calls") or ():
                function = call["function"]
                self._say(f"name {call['index']}", function.get("name"))
                self._say(f"arguments {call['index']}", function.get("arguments"))
            logprobs = choice.get("logprobs") or {}
            self.places += zip(
                logprobs.get("text_offset", ()), logprobs.get("tokens", ()), strict=True
            )
            if part.get("role"):
                self.once.append(part["role"])
            if choice.get("finish_reason"):
                self.reasons.append(choice["finish_reason"])

    def _of_response(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind.endswith(".delta"):
            self._say(kind, event["delta"])
            return
        self.once.append(kind)
        if (response := event.get("response")) is not None:
            self.ids.add(response["id"])
            if kind == "response.completed":
                self.done = True
                self._count(response["usage"])
                for item in response["output"]:
                    content = "".join(part["text"] for part in item.get("content") or ())
                    self._say("output", content or item.get("arguments"))

    def _of_message(self, event: dict[str, Any]) -> None:
        kind = event["type"]
        if kind == "content_block_delta":
            delta = event["delta"]
            field = delta["type"].removesuffix("_delta")
            self._say(f"{field} {event['index']}", delta[field])
            return
        self.once.append(f"{kind} {event.get('index')}")
        if kind == "message_start":
            self.ids.add(event["message"]["id"])
            self._count(event["message"]["usage"])
        elif kind == "message_delta":
            self.reasons.append(event["delta"]["stop_reason"])
            self._count(event["usage"])
        elif kind == "message_stop":
            self.done = True


async def listen(client: httpx.AsyncClient, path: str, body: Any) -> AsyncIterator[Spoken]:
    """Ask, and give what has been said after each event: the same object, which grows."""
    spoken, name = Spoken(), ""
    headers = {"anthropic-version": "2023-06-01"}
    async with client.stream("POST", f"/v1/{path}", json=body, headers=headers) as answer:
        if answer.status_code != 200:
            spoken.error = (await answer.aread()).decode()
            yield spoken
            return
        async for line in answer.aiter_lines():
            if line.startswith("event: "):
                name = line[7:]
            elif line.startswith("data: "):
                spoken.take(name, line[6:])
                name = ""
                yield spoken
