"""The client leaves: the engine's work ends at once, whatever the gateway waits for."""

from __future__ import annotations

import asyncio
import json
import time

import pytest

from tests.faults.houses import settled
from tests.support.inprocess import ask, post, routing, serving
from tests.support.upstream import (
    CHAT,
    ROLE,
    STREAM_HEAD,
    Close,
    Flood,
    Pause,
    Send,
    Silence,
    chunked,
    failing,
    scripted,
    stream,
    text,
)

SOON = 1.0
"""Seconds that a busy machine may take to notice; the promise to users is 100 ms."""

WAITS = {
    "for the head": (Silence(),),
    "for the first event": (Send(STREAM_HEAD), Silence()),
    "for the first content": (*stream(ROLE, ended=False), Silence()),
    "for the rest of a stream": (*stream(ROLE, text("Once"), ended=False), Silence()),
    "for nothing, in the middle of a stream": stream(*[text("on"), Pause(0.005)] * 4000),
    "for the rest of a body": (
        Send(b"HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{"),
        Silence(),
    ),
}


def asking(streamed=True, **fields):
    return post(json.dumps(ask(stream=streamed, **fields)).encode())


@pytest.mark.parametrize("way", ["reset", "close"])
@pytest.mark.parametrize("script", WAITS.values(), ids=WAITS)
async def test_a_client_that_leaves_frees_the_engine(tmp_path, script, way):
    async with scripted(script) as engine, serving(tmp_path, routing(engine)) as gateway:
        client = await gateway.connect()
        await client.write(asking())
        seen = await engine.asked()
        await asyncio.sleep(0.05)
        left = time.monotonic()
        client.reset() if way == "reset" else client.writer.close()
        assert await seen.gone(SOON) - left < SOON
        await settled(gateway)
    assert len(engine.seen) == 1


async def test_also_while_a_whole_answer_is_awaited(tmp_path):
    async with scripted((Silence(),)) as engine, serving(tmp_path, routing(engine)) as gateway:
        client = await gateway.connect()
        await client.write(asking(streamed=False))
        seen = await engine.asked()
        client.reset()
        await seen.gone(SOON)
        await settled(gateway)


@pytest.mark.slow
async def test_while_it_waits_before_a_retry_nobody_is_asked_again(tmp_path):
    model = {"retry": {"backoff": "400ms", "max_backoff": "400ms"}}
    async with (
        scripted(failing(500)) as engine,
        serving(tmp_path, routing(engine, model=model)) as gateway,
    ):
        client = await gateway.connect()
        await client.write(asking())
        await engine.asked()
        await asyncio.sleep(0.05)
        client.reset()
        await settled(gateway)
        await asyncio.sleep(0.5)
        assert len(engine.seen) == 1


async def test_before_its_body_is_whole_nobody_is_asked(tmp_path):
    async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
        client = await gateway.connect()
        await client.write(asking()[:-10])
        await asyncio.sleep(0.05)
        client.reset()
        await settled(gateway)
        assert engine.seen == []


async def test_one_that_only_stops_sending_counts_as_gone(tmp_path):
    async with scripted((Silence(),)) as engine, serving(tmp_path, routing(engine)) as gateway:
        client = await gateway.connect()
        await client.write(asking())
        seen = await engine.asked()
        client.writer.write_eof()
        await seen.gone(SOON)
        await client.aclose()


async def test_a_client_that_leaves_is_no_failure_of_the_replica(tmp_path):
    async with scripted((Silence(),)) as engine, serving(tmp_path, routing(engine)) as gateway:
        for turn in range(1, 6):
            client = await gateway.connect()
            await client.write(asking())
            seen = await engine.asked(turn)
            client.reset()
            await seen.gone(SOON)
        ready = await gateway.client.get("/ready")
    assert ready.status_code == 200


@pytest.mark.slow
async def test_others_on_the_same_engine_go_on(tmp_path):
    story = stream(text("Once"), Pause(0.3), text(" upon"), ended=False)
    async with (
        scripted((Silence(),), (*story, Close())) as engine,
        serving(tmp_path, routing(engine)) as gateway,
    ):
        client = await gateway.connect()
        await client.write(asking())
        await engine.asked()
        other = asyncio.create_task(gateway.chat(stream=True))
        await engine.asked(2)
        client.reset()
        assert "upon" in (await other).text


class TestPipelined:
    async def test_a_second_request_is_answered_after_the_first(self, tmp_path):
        async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
            client = await gateway.connect()
            await client.write(asking(streamed=False) + asking(streamed=False, user="two"))
            first = await client.response()
            second = await client.response()
            await client.aclose()
        assert (first[0], second[0]) == (200, 200)
        assert [seen.json.get("user") for seen in engine.seen] == [None, "two"]

    async def test_a_client_with_requests_in_line_that_leaves_frees_the_engine(self, tmp_path):
        async with scripted((Silence(),)) as engine, serving(tmp_path, routing(engine)) as gateway:
            client = await gateway.connect()
            await client.write(asking() + asking())
            seen = await engine.asked()
            await asyncio.sleep(0.05)
            client.reset()
            await seen.gone(SOON)
        assert len(engine.seen) == 1


class TestSlowClient:
    PIECE = chunked(text("x" * 16_000))
    LIMIT = 256 << 20

    def script(self):
        return (Send(STREAM_HEAD), Flood(self.PIECE, self.LIMIT))

    @pytest.mark.slow
    async def test_the_engine_can_push_only_so_much(self, tmp_path):
        async with (
            scripted(self.script()) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            client = await gateway.connect()
            client.writer.transport.pause_reading()
            await client.write(asking())
            seen = await engine.asked()
            pushed = await _still(seen)
            grown = _resident()
            await asyncio.sleep(0.2)
            assert seen.pushed == pushed
            assert pushed < 32 << 20
            assert _resident() - grown < 4 << 20
            client.reset()
            await seen.gone(SOON)

    @pytest.mark.slow
    async def test_once_it_reads_again_the_stream_goes_on(self, tmp_path):
        async with (
            scripted(self.script()) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            client = await gateway.connect()
            client.writer.transport.pause_reading()
            await client.write(asking())
            seen = await engine.asked()
            pushed = await _still(seen)
            client.writer.transport.resume_reading()
            await client.reader.readexactly(pushed // 2)
            async with asyncio.timeout(5):
                while seen.pushed <= pushed:
                    await client.reader.read(1 << 16)
            client.reset()

    @pytest.mark.slow
    async def test_one_that_never_reads_is_let_go_in_the_end(self, tmp_path):
        server = {"limits": {"write_timeout": "400ms"}}
        async with (
            scripted(self.script()) as engine,
            serving(tmp_path, routing(engine, server=server)) as gateway,
        ):
            client = await gateway.connect()
            client.writer.transport.pause_reading()
            await client.write(asking())
            seen = await engine.asked()
            await seen.gone(3.0)
            client.reset()

    async def test_a_slow_engine_takes_a_large_request_at_its_own_pace(self, tmp_path):
        async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
            answer = await gateway.chat(padding="x" * (8 << 20))
        assert answer.status_code == 200
        assert len(engine.seen[0].json["padding"]) == 8 << 20


async def _still(seen):
    """Wait until no more is pushed; how much was."""
    async with asyncio.timeout(10):
        while True:
            before = seen.pushed
            await asyncio.sleep(0.25)
            if seen.pushed == before and before:
                return before


def _resident():
    """Bytes of memory that this process holds."""
    with open("/proc/self/statm") as statm:
        return int(statm.read().split()[1]) * 4096
