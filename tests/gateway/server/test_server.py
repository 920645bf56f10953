from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import time

import pytest

from tests.support.inprocess import ask, post, routing, serving
from tests.support.upstream import (
    CHAT,
    STREAM_HEAD,
    Drip,
    Flood,
    Send,
    chunked,
    scripted,
    text,
)

HEALTH = b"GET /health HTTP/1.1\r\nhost: g\r\n\r\n"
STREAMED = post(json.dumps(ask(stream=True)).encode())
FLOOD = (Send(STREAM_HEAD), Flood(chunked(text("x" * 16_000)), 64 << 20))


@pytest.mark.slow
async def test_keep_alive_may_be_a_part_of_a_second(tmp_path):
    async with scripted(CHAT) as engine:
        document = routing(engine, server={"keep_alive": "400ms"})
        async with serving(tmp_path, document) as gateway:
            client = await gateway.connect()
            for _ in range(2):
                await client.write(HEALTH)
                assert (await client.response())[0] == 200
                await asyncio.sleep(0.1)
            assert await client.rest(2.0) == b""


def leave(gateway):
    """What SIGTERM does; the task of the drain."""
    server = gateway.gateway._server
    server.leave(signal.SIGTERM)
    return server._draining


def draining(engine):
    return routing(engine, server={"drain": {"grace": "0s", "timeout": "100ms"}})


async def not_reading(gateway, engine):
    """Connect a client that takes nothing of its stream, until nothing more goes in."""
    asked = len(engine.seen) + 1
    client = await gateway.connect()
    client.writer.transport.pause_reading()
    await client.write(STREAMED)
    seen = await engine.asked(asked)
    pushed = -1
    async with asyncio.timeout(10):
        while seen.pushed != pushed:
            pushed = seen.pushed
            await asyncio.sleep(0.2)


@pytest.mark.slow
async def test_a_client_that_does_not_read_is_dropped_by_the_cut_without_a_word(tmp_path, caplog):
    async with scripted(FLOOD) as engine, serving(tmp_path, draining(engine)) as gateway:
        for _ in range(2):
            await not_reading(gateway, engine)
        await leave(gateway)
        # Within the time that the drain gives: uvicorn would cancel what is left.
        assert gateway.gateway._drain.in_flight == 0
        await asyncio.sleep(0.1)
    assert "Traceback" not in caplog.text
    assert "ASGI" not in caplog.text


@contextlib.asynccontextmanager
async def being_told(directory):
    """A gateway that has an error to tell, after a stream of which its client takes nothing."""
    drip = Drip(chunked(text("x" * 16_000)) * 2000, 16_000, 0.002)
    async with (
        scripted((Send(STREAM_HEAD), drip)) as engine,
        serving(directory, draining(engine)) as gateway,
    ):
        client = await gateway.connect()
        client.writer.transport.pause_reading()
        await client.write(STREAMED)
        await engine.asked()
        (connection,) = gateway.gateway._server.server_state.connections
        async with asyncio.timeout(20):
            while not connection.flow.write_paused:
                await asyncio.sleep(0)
        await engine.close()
        await asyncio.sleep(0.1)
        assert gateway.gateway._drain.in_flight == 1
        yield gateway, client


@pytest.mark.slow
async def test_also_one_that_was_being_told_of_an_error(tmp_path, caplog):
    async with being_told(tmp_path) as (gateway, _):
        await leave(gateway)
        assert gateway.gateway._drain.in_flight == 0
        await asyncio.sleep(0.1)
    assert "Traceback" not in caplog.text
    assert "ASGI" not in caplog.text


@pytest.mark.slow
async def test_a_client_that_leaves_while_it_is_told_of_an_error_is_let_go(tmp_path, caplog):
    async with being_told(tmp_path) as (gateway, client):
        client.reset()
        async with asyncio.timeout(2):
            while gateway.gateway._drain.in_flight:
                await asyncio.sleep(0.01)
        await asyncio.sleep(0.1)
    assert "Traceback" not in caplog.text
    assert "ASGI" not in caplog.text


async def test_a_body_that_drips_does_not_hold_up_the_way_out(tmp_path, caplog):
    async with scripted(CHAT) as engine, serving(tmp_path, draining(engine)) as gateway:
        client = await gateway.connect()
        await client.write(post(json.dumps(ask()).encode())[:-5])
        await asyncio.sleep(0.05)
        began = time.monotonic()
        await leave(gateway)
        assert time.monotonic() - began < 1
        status, head, body = await client.response()
        assert status == 503
        assert b"connection: close" in head
        assert json.loads(body)["error"]["code"] == "shutting_down"
    assert engine.seen == []
    assert "Traceback" not in caplog.text
