from __future__ import annotations

import asyncio
import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from backends.base import Adapter, BackendError, Endpoint, Request
from backends.options import Launch, VllmOptions

ROOT = Path(__file__).resolve().parents[2]
MODEL = ROOT / "models" / "tiny-tale"


def answer(status, body=b"{}"):
    return b"HTTP/1.1 %d X\r\ncontent-length: %d\r\n\r\n%s" % (status, len(body), body)


def opened(url):
    return VllmOptions(replicas=(url,)).open("vllm")


@pytest.mark.parametrize(
    ("answers", "ready", "reason"),
    [
        ([answer(503)], False, "the engine behind the server is dead"),
        ([answer(500)], False, "/health answers HTTP 500"),
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


@pytest.mark.parametrize(
    ("said", "tokens"),
    [
        (answer(200, b'{"count":3,"tokens":[1,2,3]}'), 3),
        (answer(404), None),
        (answer(200, b"{"), None),
        (answer(200, b"{}"), None),
        (b"", None),
    ],
)
async def test_tokens_of_a_text_are_counted_where_it_says_them(start_peer, step, said, tokens):
    async with start_peer([step.READ, said]) as peer:
        backend = opened(peer.url)
        assert await backend.count_text(backend.addresses[0], "Once upon a") == tokens
        await backend.stop()
    assert peer.requests[0].startswith(b"POST /tokenize HTTP/1.1\r\n")


async def test_a_client_cannot_choose_the_engine_core(start_peer, step):
    async with start_peer([step.READ, answer(200), step.HANG]) as peer:
        backend = opened(peer.url)
        headers = ((b"x-data-parallel-rank", b"3"), (b"x-request-id", b"r1"))
        request = Request(endpoint=Endpoint.CHAT, body=b"{}", headers=headers)
        reply = await backend.send(peer.url, request)
        await reply.body.aclose()
        await backend.stop()
    assert b"x-data-parallel-rank" not in peer.requests[0]
    assert b"x-request-id: r1" in peer.requests[0]


@contextlib.asynccontextmanager
async def vllm(port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    found = subprocess.run(
        [sys.executable, "-m", "tools.engines", "path", "vllm"],
        cwd=ROOT, capture_output=True, text=True, check=False, timeout=30,
    )  # fmt: skip
    if found.returncode or not (MODEL / "model.safetensors").exists():
        pytest.skip("vLLM or its model is missing: `make engines`")
    process = await asyncio.create_subprocess_exec(
        found.stdout.strip(), "serve", str(MODEL), "--served-model-name", "tiny-tale",
        "--host", "127.0.0.1", "--port", str(port), "--dtype", "float32", "--enforce-eager",
        "--max-model-len", "2048", "--max-num-seqs", "4", "--generation-config", "vllm",
        "--kv-cache-memory-bytes", "128M",
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True,
        env={**os.environ, "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"},
    )  # fmt: skip
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, 9)
        await process.wait()


async def until_ready(backend, address, process):
    async with asyncio.timeout(240):
        while not (await backend.probe(address)).ready:
            assert process.returncode is None, "vLLM did not start"
            await asyncio.sleep(0.5)


def story(**fields):
    messages = [{"role": "user", "content": "Tell me a story about Tom."}]
    body = {"model": "tiny-tale", "messages": messages, "temperature": 0, **fields}
    return Request(endpoint=Endpoint.CHAT, body=json.dumps(body).encode())


async def metric(backend, address, name):
    _, body = await backend.get(address, "/metrics")
    lines = body.decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(name + "{"))


@pytest.mark.engine
@pytest.mark.timeout(300)
async def test_a_real_vllm():
    with socket.create_server(("127.0.0.1", 0)) as sock:
        port = sock.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    backend = opened(address)
    async with vllm(port) as process:
        await until_ready(backend, address, process)
        reply = await backend.send(address, story(max_tokens=16))
        whole = json.loads(b"".join([piece async for piece in reply.body]))
        assert reply.status == 200
        assert whole["choices"][0]["message"]["content"]

        tokens = Request(
            endpoint=Endpoint.COUNT_TOKENS,
            body=b'{"model":"tiny-tale","messages":[{"role":"user","content":"hi"}]}',
        )
        reply = await backend.send(address, tokens)
        counted = json.loads(b"".join([piece async for piece in reply.body]))
        assert counted["input_tokens"] > 0

        reply = await backend.send(address, story(stream=True, max_tokens=1900, ignore_eos=True))
        await anext(aiter(reply.body))
        assert await metric(backend, address, "vllm:num_requests_running") == 1
        await reply.body.aclose()
        async with asyncio.timeout(30):
            while await metric(backend, address, "vllm:num_requests_running"):
                await asyncio.sleep(0.05)
        # It had not just come to its end.
        assert 0 < await metric(backend, address, "vllm:generation_tokens_total") < 1900
    await backend.stop()


@pytest.mark.parametrize(
    ("status", "page", "steps"),
    [
        (200, b'vllm:generation_tokens_total{a="b"} 3.0\nvllm:prompt_tokens_total 4\nx 9\n', 7.0),
        (200, b"", None),
        (404, b"", None),
    ],
)
async def test_how_far_it_is_is_what_it_counts(start_peer, step, status, page, steps):
    async with start_peer([step.READ, answer(status, page), step.HANG]) as peer:
        backend = opened(peer.url)
        assert await backend.steps(peer.url) == steps
        await backend.stop()
    assert peer.requests[0].startswith(b"GET /metrics HTTP/1.1\r\n")


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("The size of tensor a (128) must match", "for another model, or broken: The size of"),
        ("header too small", "broken: header too small"),
    ],
)
async def test_what_is_wrong_with_an_adapter_names_it_and_no_trace(start_peer, step, said, told):
    message = f"Worker failed with error '{said}', please check the stack trace above for it"
    body = json.dumps({"error": {"message": message, "code": 500}}).encode()
    cards = b'{"object":"list","data":[]}'
    script = [step.READ, answer(200, cards), step.READ, answer(500, body), step.HANG]
    async with start_peer(script) as peer:
        backend = opened(peer.url)
        with pytest.raises(BackendError) as refused:
            await backend.load_adapter(backend.addresses[0], Adapter("sql", "/adapters/sql"))
        await backend.stop()
    assert f"vLLM refuses the adapter /adapters/sql: it is {told}" in refused.value.message
    assert "stack trace" not in refused.value.message


@pytest.mark.parametrize(("places", "warned"), [("1", True), ("2", False)])
async def test_an_adapter_that_leaves_no_place_for_the_model_is_warned_of(
    start_peer, step, caplog, places, warned
):
    cards = b'{"object":"list","data":[]}'
    script = [step.READ, answer(200, cards), step.READ, answer(200), step.HANG]
    async with start_peer(script) as peer:
        options = VllmOptions(
            replicas=(peer.url,), launch=Launch(model="/m", args=("--max-loras", places))
        )
        backend = options.connect("vllm")
        await backend.load_adapter(backend.addresses[0], Adapter("sql", "/adapters/sql"))
        await backend.stop()
    assert ("--max-loras" in caplog.text) is warned
