"""Requests in other dialects than chats, and a gateway whose engines have only chats."""

from __future__ import annotations

from contextlib import asynccontextmanager

from tests.support.inprocess import serving
from tests.support.upstream import ENGINE_MODEL

LACKS = ["responses", "messages", "count_tokens"]
ASKED = {
    "messages": {"max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]},
    "responses": {"input": "Hi"},
}


def backend(*engines, without=LACKS):
    replicas = [engine.url for engine in engines]
    return {"use": "openai", "replicas": replicas, "model": ENGINE_MODEL, "without": without}


@asynccontextmanager
async def house(tmp_path, *engines, fallback=None, **model):
    """A gateway with one model, `tale`, on engines with chats; `fallback` serves all itself."""
    keys = {"backend": "plain", "balance": "round_robin", "retry": {"backoff": "1ms"}, **model}
    document = {
        "backends": {"plain": backend(*engines)},
        "models": {"tale": keys},
        "telemetry": {"access_log": False},
    }
    if fallback is not None:
        document["backends"]["native"] = backend(fallback, without=[])
        document["models"] |= {
            "other": {"backend": "native"},
            "tale": {**keys, "fallback": ["other"]},
        }
    async with serving(tmp_path, document) as gateway:
        yield gateway


async def ask(gateway, dialect, stream=True, path=None, **fields):
    body = {"model": "tale", "stream": stream, **ASKED[dialect], **fields}
    return await gateway.client.post(f"/v1/{path or dialect}", json=body)
