from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.base import BackendError, Endpoint, Request, Stage
from backends.llama_server import LlamaServerOptions

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "tiny-tale" / "tiny-tale-f32.gguf"


def answer(status, body=b"{}"):
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


def opened(url):
    return LlamaServerOptions(replicas=(url,)).open("llama")


@pytest.mark.parametrize(
    ("answers", "ready", "reason"),
    [
        ([answer(503, b'{"error":{"message":"Loading model"}}')], False, "loading the model"),
        ([answer(404)], False, "/health answers HTTP 404"),
        ([answer(200), answer(401)], False, "misconfigured: the engine wants an api_key"),
        ([answer(200), answer(200)], True, ""),
    ],
)
async def test_readiness(start_peer, step, answers, ready, reason):
    script = [part for data in answers for part in (step.READ, data)]
    async with start_peer([*script, step.HANG]) as peer:
        backend = opened(peer.url + "/v1")
        readiness = await backend.probe(backend.addresses[0])
        await backend.stop()
    assert readiness.ready is ready
    assert readiness.reason.startswith(reason)
    assert peer.requests[0].startswith(b"GET /health HTTP/1.1\r\n")


async def test_a_client_cannot_detach_its_stream_from_its_connection(start_peer, step):
    async with start_peer([step.READ, answer(200), step.HANG]) as peer:
        backend = opened(peer.url)
        headers = ((b"x-conversation-id", b"c1"), (b"x-request-id", b"r1"))
        request = Request(endpoint=Endpoint.CHAT, body=b"{}", headers=headers)
        reply = await backend.send(peer.url, request)
        await reply.body.aclose()
        await backend.stop()
    assert b"x-conversation-id" not in peer.requests[0]
    assert b"x-request-id: r1" in peer.requests[0]


@contextlib.asynccontextmanager
async def llama_server(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    found = subprocess.run(
        [sys.executable, "-m", "tools.engines", "path", "llama-server"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    if found.returncode or not MODEL.exists():
        pytest.skip("llama-server or its model is missing: `make engines`")
    process = await asyncio.create_subprocess_exec(
        found.stdout.strip(), "-m", str(MODEL), "--host", "127.0.0.1", "--port", str(port),
        "-np", "2", "-c", "8192", "-t", "1", "--slots", "--context-shift", "--log-disable",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return sock.getsockname()[1]


async def until_ready(backend, address):
    async with asyncio.timeout(60):
        while not (readiness := await backend.probe(address)).ready:
            await asyncio.sleep(0.05)
    return readiness


def story(**fields):
    messages = [{"role": "user", "content": "Tell me a story about Tom."}]
    body = {"model": "any-name", "messages": messages, "temperature": 0, **fields}
    return Request(
        endpoint=Endpoint.CHAT,
        body=json.dumps(body).encode(),
        stream=bool(fields.get("stream")),
        headers=((b"x-conversation-id", b"c1"),),
    )


async def busy_slots(backend, address):
    _, body = await backend.get(address, "/slots")
    return sum(slot["is_processing"] for slot in json.loads(body))


@pytest.mark.engine
async def test_a_real_llama_server():
    port = free_port()
    address = f"http://127.0.0.1:{port}"
    backend = opened(address)
    assert "refused" in (await backend.probe(address)).reason
    async with llama_server(port) as process:
        await until_ready(backend, address)
        assert len(await backend.models(address)) == 1

        reply = await backend.send(address, story(max_tokens=16))
        whole = json.loads(b"".join([piece async for piece in reply.body]))
        assert reply.status == 200
        assert whole["choices"][0]["message"]["content"]

        unable = await backend.send(address, Request(endpoint=Endpoint.EMBEDDINGS, body=b"{}"))
        await unable.body.aclose()
        assert unable.status == 501

        # With its context shifting it would write for ever; closing the reply stops it.
        endless = story(stream=True, max_tokens=10**9, ignore_eos=True)
        reply = await backend.send(address, endless)
        await anext(aiter(reply.body))
        assert await busy_slots(backend, address) == 1
        await reply.body.aclose()
        async with asyncio.timeout(5):
            while await busy_slots(backend, address):
                await asyncio.sleep(0.01)

        # Nor does it write on for one that is given up before its first byte. It looks for that
        # once in a second without any result, and an answer from /slots is one: do not disturb.
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(
                backend.send(address, story(max_tokens=10**9, ignore_eos=True)), 0.3
            )
        async with asyncio.timeout(20):
            while await busy_slots(backend, address):
                await asyncio.sleep(2)

        reply = await backend.send(address, endless)
        await anext(aiter(reply.body))
        process.kill()
        with pytest.raises(BackendError) as caught:
            async for _ in reply.body:
                pass
        assert caught.value.stage is Stage.STREAMING
        await reply.body.aclose()
    async with llama_server(port):  # restarted: the next request is as the first
        await until_ready(backend, address)
        reply = await backend.send(address, story(max_tokens=4))
        await reply.body.aclose()
        assert reply.status == 200
    await backend.stop()
