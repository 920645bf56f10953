"""A server that loads and drops adapters as vLLM does, on a real socket."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from typing import Any

BASE = "tale"


class LoraEngine:
    """What is in it, and what it was told."""

    def __init__(self) -> None:
        self.url = ""
        self.adapters: dict[str, str] = {}
        """By name, the path."""
        self.broken: set[str] = set()
        """Paths that it cannot load."""
        self.enabled = True
        """Whether it loads adapters while it runs."""
        self.healthy = True
        self.told: list[tuple[str, str]] = []
        """`load` and `unload`, each with the name."""
        self.answering = asyncio.Event()
        """Answers wait for it."""
        self.answering.set()
        self.loading = asyncio.Event()
        """Adapters are loaded once it is set."""
        self.loading.set()

    def answer(self, method: str, path: str, body: bytes) -> tuple[int, Any]:
        if path == "/health":
            return (200 if self.healthy else 503), {}
        if path == "/v1/models":
            cards = [{"id": BASE, "root": "/models/tale", "parent": None}]
            cards += [{"id": n, "root": p, "parent": BASE} for n, p in self.adapters.items()]
            return 200, {"object": "list", "data": cards}
        asked = json.loads(body) if method == "POST" else {}
        if path == "/v1/load_lora_adapter" and self.enabled:
            return self._load(asked["lora_name"], asked["lora_path"])
        if path == "/v1/unload_lora_adapter" and self.enabled:
            self.told.append(("unload", asked["lora_name"]))
            return (200 if self.adapters.pop(asked["lora_name"], None) else 404), {}
        if path == "/v1/chat/completions":
            return self._chat(asked["model"])
        return 404, {"detail": "Not Found"}

    def _load(self, name: str, path: str) -> tuple[int, Any]:
        if name in self.adapters or path in self.broken:
            return 400, {"error": {"message": f"cannot load {name}", "code": 400}}
        self.told.append(("load", name))
        self.adapters[name] = path
        return 200, {}

    def _chat(self, model: str) -> tuple[int, Any]:
        if model != BASE and model not in self.adapters:
            return 404, {"error": {"message": f"The model `{model}` does not exist.", "code": 404}}
        said = self.adapters.get(model, "base")
        choice = {
            "index": 0,
            "message": {"role": "assistant", "content": said},
            "finish_reason": "stop",
        }
        return 200, {"id": "1", "object": "chat.completion", "model": model, "choices": [choice]}


@contextlib.asynccontextmanager
async def lora_engine() -> AsyncIterator[LoraEngine]:
    """One that listens; `upstream` in its tasks' names, as those of other scripted engines."""
    engine = LoraEngine()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, OSError, asyncio.CancelledError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
                method, path, _ = head.split(" ", 2)
                lengths = [one for one in head.split("\r\n") if one.lower().startswith("content-l")]
                size = int(lengths[0].split(":")[1]) if lengths else 0
                content = await reader.readexactly(size)
                if path == "/v1/chat/completions":
                    await engine.answering.wait()
                if path == "/v1/load_lora_adapter":
                    await engine.loading.wait()
                status, answer = engine.answer(method, path, content)
                body = json.dumps(answer).encode()
                writer.write(
                    b"HTTP/1.1 %d X\r\ncontent-type: application/json\r\n"
                    b"content-length: %d\r\n\r\n%s" % (status, len(body), body)
                )
                await writer.drain()
        writer.close()

    tasks: set[asyncio.Task[None]] = set()

    def begin(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(serve(reader, writer), name="upstream")
        tasks.add(task)

    server = await asyncio.start_server(begin, "127.0.0.1", 0)
    engine.url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield engine
    finally:
        server.close()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
