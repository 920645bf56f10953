"""What the straight way through the gateway costs, in calls of Python functions and in garbage.

CPU time is what counts, and `bench/` measures it; but a test that asserts on time fails on a busy
machine. Calls do not depend on it, and grow with whatever somebody adds for all requests.
"""

from __future__ import annotations

import gc
import json
from itertools import pairwise
from statistics import median

import pytest
import yaml

from bench.setups import KEY, Setup, routing_yaml
from bench.wire import CLIENT_MODEL
from tests.support.calls import Calls
from tests.support.inprocess import ask, post, routing, serving
from tests.support.steps import Pause
from tests.support.upstream import (
    DONE,
    FINISH,
    ROLE,
    STORY,
    completion,
    reply,
    scripted,
    stream,
    text,
)

REQUESTS = 30
CHUNKS = 30
PLAIN, FULL, CHUNK = 220, 285, 47
"""Calls, a little above what they are: of a request that is answered in one piece by a model with
one replica, without keys; of one with the benchmark's setup, in which everything is switched on;
and of each further chunk of a stream that could be gone on with elsewhere."""


def assert_calls(calls, at_most):
    assert calls <= at_most, (
        f"{calls:g} calls where there may be {at_most}. What few requests use should not be asked "
        "of all of them: decide it where the route is built. `python -m bench --profile` tells "
        "where the time goes. Raise the bound only for what is worth it to everybody."
    )


async def calls_of(gateway, request):
    """Calls for `request`, on one connection: of most of `REQUESTS`, so that what runs beside
    them now and then does not count."""
    raw = await gateway.connect()
    counts = []
    with Calls() as calls:
        for _ in range(REQUESTS):
            before = calls.total
            await raw.write(request)
            status, _, _ = await raw.response()
            assert status == 200
            counts.append(calls.total - before)
    return median(counts)


async def test_an_answer_in_one_piece(tmp_path):
    script = reply(completion())
    async with scripted(script) as engine, serving(tmp_path, routing(engine)) as gateway:
        calls = await calls_of(gateway, post(json.dumps(ask()).encode()))
    assert_calls(calls, PLAIN)


async def test_with_everything_switched_on(tmp_path):
    script = reply(completion())
    async with scripted(script) as one, scripted(script) as other:
        document = yaml.safe_load(routing_yaml(Setup.FULL, 0, (one.port, other.port)))
        async with serving(tmp_path, document) as gateway:
            body = json.dumps(ask(model=CLIENT_MODEL)).encode()
            calls = await calls_of(gateway, post(body, b"authorization: Bearer " + KEY.encode()))
    assert_calls(calls, FULL)


async def test_a_chunk_of_a_stream(tmp_path):
    words = [step for n in range(CHUNKS) for step in (text(f" {n}"), Pause(0.002))]
    script = stream(ROLE, *words, FINISH, DONE)
    async with (
        scripted(script) as one,
        scripted(script) as other,
        serving(tmp_path, routing(one, other)) as gateway,
    ):
        raw = await gateway.connect()
        with Calls() as calls:
            await raw.write(post(json.dumps(ask(stream=True)).encode()))
            await raw.head()
            totals = [await total_after_chunk(raw, calls) for _ in range(CHUNKS)]
    assert_calls(median(after - before for before, after in pairwise(totals)), CHUNK)


@pytest.mark.parametrize("streamed", [False, True])
async def test_nothing_is_left_to_the_collector(tmp_path, streamed):
    """Objects in a circle live on until the collector comes: memory, and cold caches, for all."""
    script = stream(*STORY) if streamed else reply(completion())
    async with (
        scripted(script) as one,
        scripted(script) as other,
        serving(tmp_path, routing(one, other)) as gateway,
    ):
        raw = await gateway.connect()
        await answered(raw, streamed)
        gc.collect()
        gc.disable()
        try:
            for _ in range(REQUESTS):
                await answered(raw, streamed)
            found = gc.collect()
        finally:
            gc.enable()
    assert found < REQUESTS, (
        f"{found} objects: `gc.set_debug(gc.DEBUG_SAVEALL)` shows them, in `gc.garbage`"
    )


async def answered(raw, streamed):
    await raw.write(post(json.dumps(ask(streamed)).encode()))
    if streamed:
        await raw.reader.readuntil(b"[DONE]\n\n\r\n0\r\n\r\n")
    else:
        await raw.response()


async def total_after_chunk(raw, calls):
    await raw.reader.readuntil(b"\n\n\r\n")
    return calls.total
