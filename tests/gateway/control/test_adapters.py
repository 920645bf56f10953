"""What each replica has is what is wanted: decided purely, and done to engines on real sockets."""

from __future__ import annotations

import asyncio
import json

import pytest

from backends.base import Adapter, Backend
from backends.options import VllmOptions
from backends.readiness import Readiness
from gateway.config import Config
from gateway.control.adapters import Adapters, Outcome, Result, changes, refusal
from gateway.control.engines import Opened
from gateway.control.state import Snapshot, State
from gateway.routing.replica import Replica
from gateway.routing.table import Table
from tests.support.inprocess import serving
from tests.support.lora_engine import BASE, lora_engine
from tests.support.until import until

V1, V2, V3 = (Adapter(f"v{n}", f"/m/v{n}") for n in (1, 2, 3))


def some(*adapters):
    return frozenset(adapters)


@pytest.mark.parametrize(
    ("wanted", "kept", "ours", "has", "load", "unload"),
    [
        (some(V2, V1), some(), some(), some(), (V1, V2), ()),
        (some(V1), some(V1), some(V1), some(V1), (), ()),
        (some(V2), some(V1, V2), some(V1, V2), some(V1), (V2,), ()),
        (some(V2), some(V2), some(V1, V2), some(V1, V2), (), (V1,)),
        (some(), some(), some(), some(V3), (), ()),
        (some(), some(), some(V1), some(), (), ()),
    ],
)
def test_what_is_to_be_done(wanted, kept, ours, has, load, unload):
    todo = changes(wanted, kept, ours, has)
    assert (todo.load, todo.unload) == (load, unload)


def test_a_plan_is_refused_where_nobody_could_load_something_new():
    failed = [Result("r0", V2, Outcome.FAILED, "no"), Result("r1", V2, Outcome.FAILED, "nor I")]
    assert refusal(failed, [V1]) == "no replica could load the adapter 'v2': r0: no; r1: nor I"
    assert refusal(failed, [V2]) is None
    assert refusal([failed[0], Result("r1", V2, Outcome.LOADED)], []) is None
    assert refusal([Result("r0", V2, Outcome.WAITING, "down")], []) is None


def routing(*engines, adapter="v1", model=None, **adapters):
    return {
        "backends": {
            "gpu": {
                "use": "vllm",
                "replicas": [engine.url for engine in engines],
                "model": BASE,
                "adapters": adapters or {"v1": "/m/v1", "v2": "/m/v2"},
            }
        },
        "models": {
            "base": {"backend": "gpu"},
            "sql": {
                "variants": {"a": {"backend": "gpu", "adapter": adapter}},
                "balance": "round_robin",
                **(model or {}),
            },
        },
        "telemetry": {"access_log": False},
    }


async def said(gateway, model="sql"):
    answer = await gateway.chat(model=model)
    assert answer.status_code == 200, answer.text
    assert answer.json()["model"] == model
    return answer.json()["choices"][0]["message"]["content"]


async def reload(gateway, document):
    gateway.path.write_text(json.dumps(document))
    return await gateway.gateway._reloader.reload()


async def test_every_replica_is_given_every_adapter_before_it_is_ready(tmp_path):
    async with (
        lora_engine() as one,
        lora_engine() as other,
        serving(tmp_path, routing(one, other)) as gateway,
    ):
        assert one.adapters == other.adapters == {"v1": "/m/v1", "v2": "/m/v2"}
        heard = [await said(gateway, model) for model in ("sql", "base", "base:v2")]
        assert heard == ["/m/v1", "base", "/m/v2"]


async def test_one_that_the_server_was_started_with_is_used_as_it_is(tmp_path):
    async with lora_engine() as engine:
        engine.adapters = {"theirs": "/m/v1", "another": "/m/other"}
        async with serving(tmp_path, routing(engine, v1="/m/v1")) as gateway:
            assert await said(gateway) == "/m/v1"
        assert engine.told == []


async def test_a_new_path_under_an_old_name_is_loaded_beside_it(tmp_path):
    async with lora_engine() as engine, serving(tmp_path, routing(engine, v1="/m/v1")) as gateway:
        engine.answering.clear()
        early = asyncio.create_task(said(gateway))
        await until(lambda: gateway.gateway._state.snapshot.replicas[0].outstanding)
        assert await reload(gateway, routing(engine, v1="/m/v1-new"))
        assert sorted(engine.adapters.values()) == ["/m/v1", "/m/v1-new"]
        engine.answering.set()
        assert await early == "/m/v1"
        assert await said(gateway) == "/m/v1-new"
        await until(lambda: [*engine.adapters.values()] == ["/m/v1-new"])


@pytest.mark.slow
async def test_what_nobody_wants_goes_when_its_last_request_is_done(tmp_path):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        engine.answering.clear()
        early = asyncio.create_task(said(gateway, "base:v2"))
        await until(lambda: gateway.gateway._state.snapshot.replicas[0].outstanding)
        assert await reload(gateway, routing(engine, v1="/m/v1"))
        await gateway.gateway._adapters.settle_all(gateway.gateway._state.snapshot.replicas)
        assert "v2" in engine.adapters
        engine.answering.set()
        assert await early == "/m/v2"
        await until(lambda: "v2" not in engine.adapters)
        assert (await gateway.chat(model="base:v2")).status_code == 404


async def test_a_replica_that_cannot_is_left_out_and_says_why(tmp_path):
    async with lora_engine() as one, lora_engine() as other:
        other.broken.add("/m/v1")
        async with serving(tmp_path, routing(one, other)) as gateway:
            assert [await said(gateway) for _ in range(4)] == ["/m/v1"] * 4
            (fine, lacking) = gateway.gateway._state.snapshot.replicas
            assert fine.adapter_faults == {}
            assert "cannot load v1" in lacking.why_not(0.0, V1)
            other.broken.clear()
            await gateway.gateway._adapters.settle(lacking)
            assert lacking.serves(V1)


async def test_nobody_has_it_is_a_503_with_the_reason_and_the_base_goes_on(tmp_path):
    async with lora_engine() as engine:
        engine.enabled = False
        async with serving(tmp_path, routing(engine, model={"fallback": []})) as gateway:
            answer = await gateway.chat(model="sql")
            assert answer.status_code == 503
            assert "VLLM_ALLOW_RUNTIME_LORA_UPDATING=1" in answer.json()["error"]["message"]
            assert await said(gateway, "base") == "base"
            models = (await gateway.client.get("/ready")).json()["models"]
            assert "misconfigured" in models["sql"]
            assert models["base"] == "ready"


async def test_nobody_has_it_falls_back(tmp_path):
    async with lora_engine() as engine:
        engine.broken.add("/m/v1")
        async with serving(tmp_path, routing(engine, model={"fallback": ["base"]})) as gateway:
            answer = await gateway.chat(model="sql")
            assert answer.json()["choices"][0]["message"]["content"] == "base"


async def test_a_reload_whose_adapter_nobody_can_load_changes_nothing(tmp_path, caplog):
    async with lora_engine() as engine:
        engine.broken.add("/m/v3")
        async with serving(tmp_path, routing(engine)) as gateway:
            worse = routing(engine, adapter="v3", v1="/m/v1", v3="/m/v3", v4="/m/v4")
            assert not await reload(gateway, worse)
            assert "no replica could load the adapter 'v3'" in caplog.text
            assert await said(gateway) == "/m/v1"
            await until(lambda: "v4" not in engine.adapters)
            assert [*engine.adapters] == ["v1", "v2"]


@pytest.mark.slow
async def test_a_replica_that_comes_back_empty_serves_its_base_and_then_what_it_is_given(tmp_path):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        (replica,) = gateway.gateway._state.snapshot.replicas
        engine.healthy = False
        await gateway.gateway._health.look([replica])
        assert not replica.readiness.ready
        engine.adapters.clear()
        engine.loading.clear()
        engine.healthy = True
        await gateway.gateway._health.look([replica])
        assert replica.readiness.ready
        assert not replica.serves(V1)
        assert await said(gateway, "base") == "base"
        assert (await gateway.chat(model="sql")).status_code == 503
        engine.loading.set()
        await until(lambda: replica.serves(V1))
        assert await said(gateway) == "/m/v1"


class Odd(Backend):
    """A replica whose adapters do what a test says; everything else is fine."""

    addresses = ("here",)

    def __init__(self):
        self.has = set()
        self.bug = False
        self.unloading, self.may_unload = asyncio.Event(), asyncio.Event()
        self.answering = asyncio.Event()
        self.answering.set()

    async def start(self):
        pass

    async def stop(self):
        pass

    async def send(self, address, request):
        raise AssertionError("nobody asks it")

    async def probe(self, address):
        await self.answering.wait()
        return Readiness(True)

    def has_adapter(self, address, adapter):
        return adapter in self.has

    async def find_adapters(self, address, known):
        if self.bug:
            raise ZeroDivisionError("oops")
        return frozenset(self.has) & frozenset(known)

    async def load_adapter(self, address, adapter):
        self.has.add(adapter)

    async def unload_adapter(self, address, adapter):
        self.unloading.set()
        await self.may_unload.wait()
        self.has.discard(adapter)


def wanting(*adapters):
    return VllmOptions(replicas=("http://h",), adapters={one.name: one.path for one in adapters})


def state_of(backend, options):
    replica = Replica("gpu", backend, "here")
    replica.observe(Readiness(True))
    config = Config(backends={"gpu": options}, models={})
    return State(Snapshot(config=config, table=Table(()), replicas=(replica,))), replica


async def test_what_is_wanted_again_by_now_is_not_unloaded():
    backend = Odd()
    state, replica = state_of(backend, wanting(V1, V2, V3))
    adapters = Adapters(state)
    await adapters.settle(replica)
    config = Config(backends={"gpu": wanting(V3)}, models={})
    before = state.swap(Snapshot(config=config, table=Table(()), replicas=(replica,)))
    await state.unused(before)
    settling = asyncio.create_task(adapters.settle(replica))
    await backend.unloading.wait()  # of the first, with the second still to come
    back = Opened("gpu", wanting(V1, V2, V3), backend)
    loading = asyncio.create_task(adapters.load_ahead([back]))
    await asyncio.sleep(0.01)
    backend.may_unload.set()
    results = await loading
    await settling
    assert {one.adapter: one.outcome for one in results} == {
        V1: Outcome.LOADED,
        V2: Outcome.LOADED,
        V3: Outcome.LOADED,
    }
    assert backend.has == {V1, V2, V3}


async def test_a_replica_that_does_not_say_how_it_is_holds_up_no_change(monkeypatch):
    monkeypatch.setattr("gateway.control.adapters.ASK_TIMEOUT", 0.05)
    backend = Odd()
    backend.answering.clear()
    state, _ = state_of(backend, wanting(V1))
    (result,) = await Adapters(state).load_ahead([Opened("gpu", wanting(V1), backend)])
    assert result.outcome is Outcome.WAITING
    assert "no answer" in result.reason


async def test_a_bug_in_a_backend_ends_nothing(caplog):
    backend = Odd()
    backend.bug = True
    state, replica = state_of(backend, wanting(V1))
    adapters = Adapters(state)
    running = asyncio.create_task(adapters.run())
    await until(lambda: "oops" in caplog.text)
    assert not running.done()
    assert replica.adapter_faults == {V1: "it failed in the gateway"}
    backend.bug = False
    await adapters.settle(replica)
    assert replica.serves(V1)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


@pytest.mark.slow
async def test_one_that_got_lost_unnoticed_is_loaded_again(tmp_path):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        del engine.adapters["v1"]
        await until(lambda: "v1" in engine.adapters)
        assert await said(gateway) == "/m/v1"


async def test_the_engine_and_its_connections_stay_when_only_adapters_change(tmp_path):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        (before,) = gateway.gateway._state.snapshot.replicas
        backend = before.backend
        assert await reload(gateway, routing(engine, v1="/m/v1", v9="/m/v9"))
        (after,) = gateway.gateway._state.snapshot.replicas
        assert after.backend is backend
        assert await said(gateway, "base:v9") == "/m/v9"
