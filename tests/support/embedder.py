"""A server whose model embeds, and does nothing else; it does so as well as a test wants."""

from __future__ import annotations

import json

from backends.base import Backend, Endpoint, Reply, RequestRefused
from backends.capabilities import EVERYTHING, Capability
from backends.readiness import Readiness


class Embedder(Backend):
    """Gives `vectors` of the texts of a request; `ready` is what its first probes say."""

    addresses = ("here",)
    capabilities = EVERYTHING
    conditional = frozenset({Capability.EMBEDDINGS})

    def __init__(self, *ready, vectors=lambda texts: [[1.0, len(text)] for text in texts]) -> None:
        self._ready = list(ready)
        self._vectors = vectors

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def probe(self, address):
        ready = self._ready.pop(0) if self._ready else True
        return Readiness(ready, "" if ready else "loading")

    async def send(self, address, request):
        if request.endpoint is not Endpoint.EMBEDDINGS:
            raise RequestRefused(404, "Not Found")
        vectors = self._vectors(json.loads(request.body)["input"])
        data = [{"index": at, "embedding": one} for at, one in enumerate(vectors)]
        return Reply(200, (), _Body(json.dumps({"data": data}).encode()))


class _Body:
    def __init__(self, body):
        self._body = body

    def __aiter__(self):
        return self

    async def __anext__(self):
        body, self._body = self._body, b""
        if not body:
            raise StopAsyncIteration
        return body

    async def aclose(self): ...
