"""SIGTERM with real streams open: nobody is cut off who can still be served."""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import json
import signal
import socket
import time
from collections.abc import Iterator

import openai
import pytest

from tests.support.children import wait_until
from tests.support.engines import MODEL_DIR
from tests.support.gateway import GatewayProcess

ASK = [{"role": "user", "content": "Count from 1 to 100."}]
COUNTED = ", ".join(map(str, range(1, 101))) + "."
ENDLESS = {"max_tokens": 1_000_000, "extra_body": {"ignore_eos": True}, "temperature": 0}


def config(backend: str, *, grace: str = "500ms", timeout: str = "60s") -> str:
    return (
        f"server: {{drain: {{grace: {grace}, timeout: {timeout}}}}}\n"
        f"backends: {{one: {backend}}}\n"
        "models: {tiny-tale: {backend: one}}\n"
    )


@pytest.fixture
def llama(start_llama_server):
    return start_llama_server("--context-shift")


def before(server) -> str:
    return f"{{use: llama_server, replicas: ['{server.url}']}}"


def refused(gateway: GatewayProcess) -> tuple[int, dict[str, str], dict[str, object]]:
    body = {"model": "tiny-tale", "messages": ASK, "max_tokens": 2}
    status, headers, answer = gateway.request("POST", "/v1/chat/completions", body)
    return status, headers, json.loads(answer)


async def test_running_streams_finish_and_new_requests_are_sent_away(start_gateway, llama):
    gateway = start_gateway(config(before(llama), grace="1500ms"))
    gateway.wait_model("tiny-tale")
    async with gateway.async_openai() as client:
        streams = [
            await client.chat.completions.create(
                model="tiny-tale", messages=ASK, temperature=0, stream=True, logprobs=True
            )
            for _ in range(3)
        ]
        llama.freeze()  # however fast the engine is, its streams are open now
        in_flight = gateway.metric("gateway_requests_active")
        gateway.terminate()
        wait_until(lambda: gateway.ready()[0] == 503, 1, "/ready still says yes")
        assert "shutting down" in gateway.ready()[1]["reason"]
        assert gateway.request("GET", "/health")[0] == 200

        gateway.wait_log("draining:")
        status, headers, answer = await asyncio.to_thread(refused, gateway)
        assert status == 503
        assert int(headers["retry-after"]) >= 1
        assert headers["connection"] == "close"
        assert answer["error"]["code"] == "shutting_down"

        llama.thaw()
        texts = [[chunk async for chunk in stream] for stream in streams]
    for chunks in texts:
        text = "".join(one.delta.content or "" for chunk in chunks for one in chunk.choices)
        assert text == COUNTED
        assert chunks[-1].choices[0].finish_reason == "stop"
    assert in_flight > 0
    assert gateway.child.wait(10) == 0
    assert "Traceback" not in gateway.child.log()


async def test_requests_are_still_taken_during_the_grace_period(start_gateway, llama):
    gateway = start_gateway(config(before(llama), grace="2s"))
    gateway.wait_model("tiny-tale")
    gateway.terminate()
    wait_until(lambda: gateway.ready()[0] == 503, 1, "/ready still says yes")
    assert refused(gateway)[0] == 200
    assert gateway.child.wait(10) == 0


async def test_an_in_process_stream_finishes(start_gateway):
    """About three seconds of tokens, generated while the gateway drains."""
    gateway = start_gateway(config(f"{{use: mlx, model: {MODEL_DIR}}}", grace="0s"))
    gateway.wait_model("tiny-tale")
    async with gateway.async_openai() as client:
        stream = await client.chat.completions.create(
            model="tiny-tale",
            messages=ASK,
            stream=True,
            stream_options={"include_usage": True},
            **{**ENDLESS, "max_tokens": 1000},
        )
        first = await anext(stream)
        assert first.choices
        gateway.terminate()
        gateway.wait_log("draining: 1 requests")
        rest = [chunk async for chunk in stream]
    assert rest[-1].usage.completion_tokens == 1000
    assert gateway.child.wait(10) == 0


@contextlib.contextmanager
def open_stream(gateway: GatewayProcess) -> Iterator[http.client.HTTPResponse]:
    """An endless stream whose first line has come."""
    connection = http.client.HTTPConnection(gateway.host, gateway.port, timeout=30)
    body = {"model": "tiny-tale", "messages": ASK, "stream": True, **ENDLESS}
    body |= body.pop("extra_body")  # type: ignore[arg-type]
    try:
        connection.request(
            "POST", "/v1/chat/completions", json.dumps(body), {"content-type": "application/json"}
        )
        response = connection.getresponse()
        response.readline()
        yield response
    finally:
        connection.close()


def test_what_runs_at_the_limit_is_told(start_gateway, llama):
    gateway = start_gateway(config(before(llama), grace="0s", timeout="1s"))
    gateway.wait_model("tiny-tale")
    with open_stream(gateway) as response:
        gateway.terminate()
        body = response.read()  # http.client would raise for a body that is cut
    events = [event for event in body.split(b"\n\n") if event]
    assert b"[DONE]" not in body
    error = json.loads(events[-1].removeprefix(b"data: "))["error"]
    assert error["code"] == "shutting_down"
    assert gateway.child.wait(10) == 0
    wait_until(lambda: llama.busy_slots() == 0, 2, "the engine goes on")


def test_the_sdk_raises_for_what_is_cut(start_gateway, llama):
    gateway = start_gateway(config(before(llama), grace="0s", timeout="200ms"))
    gateway.wait_model("tiny-tale")
    with gateway.openai() as client:
        stream = client.chat.completions.create(
            model="tiny-tale", messages=ASK, stream=True, **ENDLESS
        )
        next(iter(stream))
        gateway.terminate()
        with pytest.raises(openai.APIError, match="shutting down"):
            list(stream)
    assert gateway.child.wait(10) == 0


@pytest.mark.parametrize("first", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_it_at_once(start_gateway, llama, first):
    gateway = start_gateway(config(before(llama), grace="30s", timeout="600s"))
    gateway.wait_model("tiny-tale")
    with open_stream(gateway) as response:
        gateway.child.send(first)
        gateway.wait_log("leaving:")
        told = time.monotonic()
        gateway.child.send(signal.SIGTERM)
        gateway.child.wait(3)
        print(f"gone after {(time.monotonic() - told) * 1e3:.0f} ms")
        assert b"[DONE]" not in response.read()


def test_a_gateway_without_requests_leaves_after_its_grace_period(start_gateway):
    gateway = start_gateway(
        config("{use: llama_server, replicas: ['http://127.0.0.1:9']}", grace="0s")
    )
    gateway.terminate()
    assert gateway.child.wait(3) == 0


def test_a_client_that_goes_on_sending_behind_its_refusal_does_not_hold_it_up(start_gateway):
    gateway = start_gateway(
        config("{use: llama_server, replicas: ['http://127.0.0.1:9']}", grace="0s")
    )
    head = b"POST /v1/completions HTTP/1.1\r\ncontent-type: application/json\r\n"
    with socket.create_connection((gateway.host, gateway.port), 10) as client:
        client.sendall(head + b"content-length: 99999999999\r\n\r\n")
        assert b" 413 " in client.recv(64)
        gateway.terminate()
        with contextlib.suppress(ConnectionError):
            while gateway.child.exit_code is None:
                client.sendall(b"x" * 65536)
    assert gateway.child.wait(10) == 0
    assert "exceeded" not in gateway.child.log(), "uvicorn has waited in vain"
