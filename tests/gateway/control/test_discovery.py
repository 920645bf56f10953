from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from backends.options import Discover, OpenAIOptions
from backends.readiness import Condition
from backends.units import Duration, Timeout
from gateway.control.discovery import MOST_REASONS, THREADS, Discovery, discovered
from gateway.control.lookup import Found, LookupFailedError
from gateway.errors import Conflict
from tests.support.inprocess import ask, serving
from tests.support.nameserver import nameserver
from tests.support.upstream import CHAT, ENGINE_MODEL, Hold, scripted, stream, text

BY_NAME = Discover(dns="http://llama.internal:8080", every=Timeout(0.01))


class Stage:
    """A discovery whose finds are scripted, and what it has put in force."""

    def __init__(self, *finds, discover=BY_NAME):
        self._finds = list(finds)
        self.taken = []
        self.refuses = 0
        self.config = SimpleNamespace(backends={"b": OpenAIOptions(discover=discover)})
        self.snapshot = SimpleNamespace(config=self.config, replicas=())
        state = SimpleNamespace(snapshot=self.snapshot)
        self.discovery = Discovery(state, self.take_over, find=self.find, tick=0.002, timeout=0.1)

    async def find(self, discover):
        found = self._finds.pop(0) if len(self._finds) > 1 else self._finds[0]
        if found is None:
            await asyncio.Event().wait()
        if isinstance(found, Exception):
            raise found
        return found if isinstance(found, Found) else Found(tuple(found))

    async def take_over(self, name, discover, replicas):
        if self.refuses:
            self.refuses -= 1
            raise Conflict("another change is under way")
        self.taken.append(replicas)
        self.config.backends[name] = OpenAIOptions(discover=discover, replicas=replicas)

    @contextlib.asynccontextmanager
    async def running(self):
        task = asyncio.create_task(self.discovery.run())
        try:
            yield self
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def until(self, taken):
        async with asyncio.timeout(5):
            while self.taken != taken:
                await asyncio.sleep(0.002)


A, B = "http://10.0.0.1:8080", "http://10.0.0.2:8080"


async def test_only_news_is_taken_over():
    async with Stage([A], [A], [A, B], [A, B], [B]).running() as stage:
        await stage.until([(A,), (A, B), (B,)])
        await asyncio.sleep(0.05)
    assert len(stage.taken) == 3


def replica(address, condition=Condition.READY):
    return SimpleNamespace(backend_name="b", address=address, condition=lambda _: condition)


async def test_where_some_are_told_of_at_a_time_those_missing_stay_until_they_fail(caplog):
    caplog.set_level(logging.INFO)
    stage = Stage([A], [B], [A], [B])
    stage.snapshot.replicas = (replica(A), replica(B))
    async with stage.running():
        await stage.until([(A,), (B,), (A, B)])
        stage.snapshot.replicas = (replica(A, Condition.RATE_LIMITED), replica(B))
        await asyncio.sleep(0.05)
        assert len(stage.taken) == 3
        stage.snapshot.replicas = (replica(A, Condition.UNHEALTHY), replica(B))
        await stage.until([(A,), (B,), (A, B), (B,)])
    assert caplog.text.count("tells of some replicas at a time: those missing, now 1, stay") == 1


async def test_one_that_stays_and_fails_is_let_go_before_the_next_look():
    slow = Discover(dns="http://llama.internal", every=Timeout(60))
    stage = Stage([A], [B], [A], discover=slow)
    stage.snapshot.replicas = (replica(A), replica(B))
    for _ in range(3):
        for place in stage.discovery._places.values():
            place.due = 0.0
        await stage.discovery.look()
    assert stage.taken[-1] == (A, B)
    async with stage.running():
        stage.snapshot.replicas = (replica(A), replica(B, Condition.LOADING))
        await stage.until([(A,), (B,), (A, B), (A,)])


async def test_what_cannot_be_let_go_waits_for_the_next_look(caplog):
    slow = Discover(dns="http://llama.internal", every=Timeout(60))
    stage = Stage([A], [B], [A], discover=slow)
    stage.snapshot.replicas = (replica(A), replica(B))
    for _ in range(3):
        for place in stage.discovery._places.values():
            place.due = 0.0
        await stage.discovery.look()
    stage.snapshot.replicas = (replica(A),)
    stage.refuses = 99
    async with stage.running():
        await asyncio.sleep(0.1)
    assert stage.refuses == 98
    assert caplog.text.count("another change is under way") == 1


async def test_nobody_stays_where_that_is_not_wanted_nor_by_a_file():
    for discover in (
        Discover(dns="http://llama.internal", every=Timeout(0.01), removal_grace=Duration(0)),
        Discover(file="/replicas.yaml", every=Timeout(0.01)),
    ):
        stage = Stage([A], [B], [A], [B], discover=discover)
        stage.snapshot.replicas = (replica(A), replica(B))
        async with stage.running():
            await stage.until([(A,), (B,), (A,), (B,)])


async def test_failures_keep_what_is_known_and_are_told_once(caplog):
    caplog.set_level(logging.INFO)
    no = LookupFailedError("llama.internal is not found")
    async with Stage([A], no, no, no, RuntimeError("a bug"), [A], [B]).running() as stage:
        await stage.until([(A,), (B,)])
    assert caplog.text.count("those known stay: llama.internal is not found") == 1
    assert caplog.text.count("in force again") == 1
    assert caplog.text.count("hit a bug") == 1


async def test_each_other_reason_is_told_once_and_no_more_than_some(caplog):
    torn, empty = LookupFailedError("it is torn"), LookupFailedError("it is empty")
    more = [LookupFailedError(f"line {number}") for number in range(MOST_REASONS)]
    finds = [torn, empty, torn, empty, *more, [A], torn, [B]]
    async with Stage(*finds).running() as stage:
        await stage.until([(A,), (B,)])
    assert caplog.text.count("those known stay: it is torn") == 2, "and anew after a success"
    assert caplog.text.count("it is empty") == 1
    assert caplog.text.count("line ") == MOST_REASONS - 2


async def test_how_the_last_look_went_is_known():
    stage = Stage([A], LookupFailedError("gone"), RuntimeError("a bug"), [A])
    assert stage.discovery.successes == {}
    for success in True, False, False, True:
        for place in stage.discovery._places.values():
            place.due = 0.0
        await stage.discovery.look()
        assert stage.discovery.successes == {"b": success}


async def test_a_look_that_hangs_is_given_up_and_made_again(caplog):
    async with Stage(None, [A]).running() as stage:
        await stage.until([(A,)])
    assert "no answer within 0.1 s" in caplog.text


async def test_a_resolver_that_hangs_keeps_a_few_threads_and_none_of_the_others(monkeypatch):
    let_go, asked = threading.Event(), []

    def hangs(host, *_, **__):
        asked.append(host)
        let_go.wait(30)
        raise OSError("no answer")

    monkeypatch.setattr(socket, "getaddrinfo", hangs)
    every = Timeout(0.01)
    backends = {
        f"b{number}": OpenAIOptions(discover=Discover(dns=f"http://h{number}", every=every))
        for number in range(3 * THREADS)
    }
    state = SimpleNamespace(
        snapshot=SimpleNamespace(config=SimpleNamespace(backends=backends), replicas=())
    )
    discovery = Discovery(state, None, tick=0.002, timeout=0.02)
    looking = asyncio.create_task(discovery.run())
    try:
        async with asyncio.timeout(5):
            while len(asked) < THREADS or not all(
                place.fails for place in discovery._places.values()
            ):
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.1)
            assert await asyncio.to_thread(lambda: "at once") == "at once"
        assert len(asked) == THREADS
    finally:
        let_go.set()
        looking.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await looking


async def test_what_cannot_be_put_in_force_is_tried_again_and_told_once(caplog):
    caplog.set_level(logging.INFO)
    stage = Stage([A])
    stage.refuses = 3
    async with stage.running():
        await stage.until([(A,)])
    assert caplog.text.count("not in force: another change is under way") == 1
    assert caplog.text.count("again") == 1, "once when it is in force, and not at each try"


async def test_a_short_time_to_live_is_heeded_and_a_long_one_makes_nothing_later():
    slow = Discover(dns="http://llama.internal", every=Timeout(60))
    stage = Stage(Found((A,), ttl=0), discover=slow)
    await stage.discovery.look()
    due = stage.discovery._places["b"].due - time.monotonic()
    assert 0.5 < due <= 1.0
    stage = Stage(Found((A,), ttl=3600), discover=slow)
    await stage.discovery.look()
    assert 59 < stage.discovery._places["b"].due - time.monotonic() <= 60


async def test_too_many_are_told_once(caplog):
    async with Stage(Found((A,), left_out=3), Found((A,), left_out=3), [B]).running() as stage:
        await stage.until([(A,), (B,)])
    assert caplog.text.count("3 are left out") == 1


async def test_what_a_reload_has_changed_meanwhile_is_not_put_in_force():
    stage = Stage([A])
    find = stage.discovery._find

    async def late(discover):
        stage.config.backends["b"] = OpenAIOptions(discover=Discover(dns="http://other.internal"))
        stage.discovery._due()
        return await find(discover)

    stage.discovery._find = late
    await stage.discovery.look()
    assert stage.taken == []


def test_who_is_discovered():
    backends = {"a": OpenAIOptions(replicas=(A,)), "b": OpenAIOptions(discover=BY_NAME)}
    assert discovered(SimpleNamespace(backends=backends)) == {"b": BY_NAME}


def routing(discover):
    return {
        "backends": {
            "engine": {
                "use": "openai",
                "discover": {"every": "100ms", **discover},
                "model": ENGINE_MODEL,
            }
        },
        "models": {"tale": {"backend": "engine", "balance": "round_robin"}},
        "telemetry": {"access_log": False},
    }


async def ready(gateway):
    said = (await gateway.client.get("/ready")).json()["replicas"]
    return {name for name, condition in said.items() if condition == "ready"}


async def until_ready(gateway, *upstreams):
    wanted = {f"engine@localhost:{one.port}" for one in upstreams}
    async with asyncio.timeout(10):
        while await ready(gateway) != wanted:
            await asyncio.sleep(0.02)


def tell(server, *upstreams):
    server.records["_llama._tcp.internal", "SRV"] = [
        f"0 0 {one.port} localhost." for one in upstreams
    ] or ["0 0 0 ."]
    server.ttl = 0


@pytest.mark.slow
async def test_replicas_come_and_go_by_dns_and_streams_go_on(tmp_path):
    story = stream(text("Once"), Hold(), text(" upon"), text("", 0), ended=False)
    async with (
        nameserver() as server,
        scripted(story) as first,
        scripted(CHAT) as second,
    ):
        tell(server, first)
        discover = {"srv": "http://_llama._tcp.internal", "nameserver": server.address}
        async with serving(tmp_path, routing(discover)) as gateway:
            await until_ready(gateway, first)
            raw = await gateway.connect()
            body = json.dumps(ask(stream=True)).encode()
            head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: {len(body)}"
            await raw.write(head.encode() + b"\r\ncontent-type: application/json\r\n\r\n" + body)
            await first.asked()
            await raw.head()

            tell(server, second)
            await until_ready(gateway, second)
            metrics = (await gateway.client.get("/metrics")).text
            draining = (
                f'gateway_condition="draining",gateway_replica="engine@localhost:{first.port}"'
            )
            assert draining in metrics
            assert (await gateway.chat()).headers["x-gateway-replica"].endswith(str(second.port))

            server.records = {}  # the name is gone: what is known stays
            await asyncio.sleep(1.5)
            assert (await gateway.chat()).status_code == 200

            gateway.path.write_text(json.dumps(routing(discover) | {"retry_budget": {}}))
            gateway.gateway._reloader.request()
            await asyncio.sleep(0.3)
            assert (await gateway.chat()).status_code == 200, "a reload keeps them"
            first.release()
            assert b" upon" in await asyncio.wait_for(raw.reader.readuntil(b" upon"), 5)


@pytest.mark.slow
async def test_a_resolver_that_tells_of_one_at_a_time_keeps_both_until_one_is_gone(tmp_path):
    async with nameserver() as server, scripted(CHAT) as first, scripted(CHAT) as second:
        tell(server, first)
        discover = {"srv": "http://_llama._tcp.internal", "nameserver": server.address}
        async with serving(tmp_path, routing(discover)) as gateway:
            await until_ready(gateway, first)
            for upstream in (second, first):
                asked = len(server.questions)
                tell(server, upstream)
                async with asyncio.timeout(10):
                    while len(server.questions) < asked + 2:
                        await asyncio.sleep(0.02)
            await until_ready(gateway, first, second)
            asked = len(server.questions)
            while len(server.questions) < asked + 2:
                assert len(await ready(gateway)) == 2
                await asyncio.sleep(0.02)
            await second.close()
            await until_ready(gateway, first)


@pytest.mark.slow
async def test_replicas_come_and_go_by_a_file(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    listed = tmp_path / "replicas.yaml"

    def tell(*upstreams):
        listed.write_text(json.dumps([f"http://localhost:{one.port}" for one in upstreams]))
        old = time.time() - 10
        os.utime(listed, (old, old))

    async with (
        scripted(CHAT) as first,
        scripted(CHAT) as second,
        serving(tmp_path, routing({"file": "replicas.yaml"})) as gateway,
    ):
        answer = await gateway.chat()
        assert answer.status_code == 503
        assert "has no replica" in answer.json()["error"]["message"]
        tell(first, second)
        await until_ready(gateway, first, second)
        assert [(await gateway.chat()).status_code for _ in range(4)] == [200] * 4
        listed.write_text('["http://localh')
        await asyncio.sleep(0.8)
        assert len(await ready(gateway)) == 2
        tell(second)
        await until_ready(gateway, second)
        tell(first, second)
        await until_ready(gateway, first, second)
        prompts = "gateway_replica_prompt_tokens_total"
        lines = (await gateway.client.get("/metrics")).text.splitlines()
        counts = [float(line.split()[-1]) for line in lines if line.startswith(prompts + "{")]
    assert len(counts) == 2
    assert min(counts) > 0, "who comes back has its counters"
    assert f": 1 replica by file {listed}" in caplog.text
    assert "is in force:" not in caplog.text, "nobody has touched routing.yaml"
