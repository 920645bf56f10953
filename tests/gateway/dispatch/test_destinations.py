"""Requests go past who is known to be away, and straight to who is there; both are told."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from gateway.control.health import HealthMonitor
from tests.support.inprocess import serving
from tests.support.kinds import BOTH, good
from tests.support.until import until
from tests.support.upstream import CHAT, failing, scripted

DOWN = failing(503)
LATER = ("retry-after", "60")


@asynccontextmanager
async def house(tmp_path, models, keys=None, **engines):
    """A gateway for `models`; each of `engines`, by backend, answers with a script, or with the
    second of two to probes."""
    async with AsyncExitStack() as stack:
        backends, upstreams = {}, {}
        for name, said in engines.items():
            script, probe = said if isinstance(said[0], tuple) else (said, None)
            upstream = await stack.enter_async_context(scripted(script, probe=probe))
            backends[name] = {"use": "openai", "replicas": [upstream.url]}
            upstreams[name] = upstream
        document = {
            "backends": backends,
            "models": models,
            "keys": keys or {},
            "telemetry": {"access_log": False},
        }
        yield await stack.enter_async_context(serving(tmp_path, document)), upstreams


def asked(engines):
    return {name: len(engine.seen) for name, engine in engines.items()}


async def counted(gateway):
    """What was passed over, by model and variant, and why."""
    page = (await gateway.client.get("/metrics")).text
    return {line for line in page.splitlines() if line.startswith("gateway_passed_over_total{")}


RETRY = {"retry": {"attempts": 1}}
SPARE = {"spare": {"backend": "spare", **RETRY}}


class TestFallback:
    @BOTH
    async def test_nobody_asks_a_model_that_is_down_while_its_fallback_is_there(
        self, tmp_path, streamed
    ):
        models = {"tale": {"backend": "main", "fallback": ["spare"]}, **SPARE}
        engines = {"main": (good(streamed), DOWN), "spare": good(streamed)}
        async with house(tmp_path, models, **engines) as (gateway, upstreams):
            answers = [await gateway.chat(streamed) for _ in range(3)]
            told = (await gateway.client.get("/ready")).json()["models"]["tale"]
            metric = await counted(gateway)
        assert [one.status_code for one in answers] == [200] * 3
        assert {one.headers["x-gateway-model"] for one in answers} == {"spare"}
        assert {one.headers["x-gateway-attempts"] for one in answers} == {"1"}
        assert asked(upstreams) == {"main": 0, "spare": 3}
        assert told.startswith("ready through spare")
        assert metric == {
            'gateway_passed_over_total{gateway_reason="unavailable",'
            'gateway_variant="default",gen_ai_request_model="tale"} 3.0'
        }

    async def test_a_later_fallback_that_is_there_comes_before_a_former_that_is_not(self, tmp_path):
        models = {
            "tale": {"backend": "main", "fallback": ["spare", "last"], **RETRY},
            "last": {"backend": "last"},
            **SPARE,
        }
        engines = {"main": failing(500), "spare": (CHAT, DOWN), "last": CHAT}
        async with house(tmp_path, models, **engines) as (gateway, upstreams):
            answer = await gateway.chat()
        assert answer.headers["x-gateway-model"] == "last"
        assert asked(upstreams) == {"main": 1, "spare": 0, "last": 1}

    async def test_who_was_passed_over_is_asked_where_nobody_else_has_answered(self, tmp_path):
        models = {"tale": {"backend": "main", "fallback": ["spare"], **RETRY}, **SPARE}
        engines = {"main": (CHAT, DOWN), "spare": failing(500)}
        async with house(tmp_path, models, **engines) as (gateway, upstreams):
            answer = await gateway.chat()
        assert answer.status_code == 200
        assert answer.headers["x-gateway-model"] == "tale"
        assert asked(upstreams) == {"main": 1, "spare": 1}

    async def test_but_not_after_the_clients_own_mistake(self, tmp_path):
        models = {"tale": {"backend": "main", "fallback": ["spare"]}, **SPARE}
        engines = {"main": (CHAT, DOWN), "spare": failing(400, "yours")}
        async with house(tmp_path, models, **engines) as (gateway, upstreams):
            answer = await gateway.chat()
        assert answer.status_code == 400
        assert asked(upstreams) == {"main": 0, "spare": 1}

    async def test_where_nobody_is_there_the_best_one_is_asked_in_the_files_order(self, tmp_path):
        models = {"tale": {"backend": "main", "fallback": ["spare"], **RETRY}, **SPARE}
        engines = {"main": (CHAT, DOWN), "spare": (CHAT, DOWN)}
        async with house(tmp_path, models, **engines) as (gateway, upstreams):
            answer = await gateway.chat()
            assert not await counted(gateway)
        assert answer.headers["x-gateway-model"] == "tale"
        assert asked(upstreams) == {"main": 1, "spare": 0}

    async def test_a_fallback_that_the_key_may_not_use_is_none(self, tmp_path):
        models = {"tale": {"backend": "main", "fallback": ["spare"], **RETRY}, **SPARE}
        engines = {"main": (CHAT, DOWN), "spare": CHAT}
        keys = {"bob": {"value": "0123456789", "models": ["tale"]}}
        async with house(tmp_path, models, keys, **engines) as (gateway, upstreams):
            gateway.client.headers["authorization"] = "Bearer 0123456789"
            answer = await gateway.chat()
        assert answer.headers["x-gateway-model"] == "tale"
        assert asked(upstreams) == {"main": 1, "spare": 0}

    @pytest.mark.parametrize(
        ("status", "cause", "there"),
        [
            (429, "overloaded", True),
            (429, "unavailable", False),
            (503, "unavailable", True),
            (503, "overloaded", False),
        ],
    )
    async def test_one_that_wants_to_be_left_alone_is_by_its_cause(
        self, tmp_path, status, cause, there
    ):
        models = {"tale": {"backend": "main", "fallback": {cause: ["spare"]}}, **SPARE}
        engines = {"main": failing(status, "later", LATER), "spare": CHAT}
        async with house(tmp_path, models, **engines) as (gateway, upstreams):
            answers = [await gateway.chat() for _ in range(4)]
            told = (await gateway.client.get("/ready")).json()["models"]["tale"]
        assert [one.status_code for one in answers] == [200 if there else status] * 4
        assert asked(upstreams) == ({"main": 1, "spare": 4} if there else {"main": 4, "spare": 0})
        assert told.startswith("ready through spare") == there

    async def test_it_does_not_wait_before_the_gate_of_one_that_is_down(self, tmp_path):
        gate = {"concurrency": 1, "queue": {"size": 1, "timeout": "30s"}}
        models = {"tale": {"backend": "main", "fallback": ["spare"], **gate}, **SPARE}
        engines = {"main": (CHAT, DOWN), "spare": CHAT}
        async with house(tmp_path, models, **engines) as (gateway, upstreams):
            answers = await asyncio.gather(*(gateway.chat() for _ in range(5)))
        assert [one.status_code for one in answers] == [200] * 5
        assert asked(upstreams) == {"main": 0, "spare": 5}

    @pytest.mark.slow
    async def test_one_that_nobody_probes_comes_back_by_a_trial(self, tmp_path, monkeypatch):
        """Its ejection is over after a second; then one request tries it, and one is enough."""

        async def never(self):
            await asyncio.Event().wait()

        monkeypatch.setattr(HealthMonitor, "run", never)
        retry = {"retry": {"attempts": 3, "backoff": "1ms"}}
        models = {"tale": {"backend": "main", "fallback": ["spare"], **retry}, **SPARE}
        async with house(tmp_path, models, main=failing(500), spare=CHAT) as (gateway, upstreams):
            first = [(await gateway.chat()).headers["x-gateway-model"] for _ in range(3)]
            before = asked(upstreams)
            upstreams["main"].heal(CHAT)
            (replica,) = upstreams_of(gateway, "main")
            await until(lambda: replica.may_take_traffic(asyncio.get_running_loop().time()))
            then = [(await gateway.chat()).headers["x-gateway-model"] for _ in range(3)]
        assert first == ["spare"] * 3
        assert before == {"main": 3, "spare": 3}, "three failures eject it, and then it rests"
        assert then == ["tale"] * 3


def upstreams_of(gateway, backend):
    snapshot = gateway.gateway._state.snapshot
    return [one for one in snapshot.replicas if one.backend_name == backend]


class TestVariants:
    @staticmethod
    def models(**more):
        variants = {"stable": {"backend": "main"}, "canary": {"backend": "spare"}}
        return {"tale": {"variants": variants, "sticky": "user", **RETRY, **more}}

    @pytest.mark.slow
    async def test_a_split_gives_way_and_the_users_come_back(self, tmp_path):
        users = [f"user {n}" for n in range(12)]
        engines = {"main": CHAT, "spare": CHAT}
        async with house(tmp_path, self.models(), **engines) as (gateway, upstreams):

            async def arms():
                return [
                    (await gateway.chat(user=one)).headers["x-gateway-variant"] for one in users
                ]

            before = await arms()
            upstreams["spare"].probe = DOWN
            (replica,) = upstreams_of(gateway, "spare")
            await until(lambda: not replica.readiness.ready)
            seen = len(upstreams["spare"].seen)
            meanwhile = await arms()
            assert len(upstreams["spare"].seen) == seen
            metric = await counted(gateway)
            upstreams["spare"].probe = CHAT
            await until(lambda: replica.readiness.ready)
            after = await arms()
        assert set(before) == {"stable", "canary"}
        assert set(meanwhile) == {"stable"}
        assert after == before
        assert metric == {
            'gateway_passed_over_total{gateway_reason="unavailable",gateway_variant="canary",'
            f'gen_ai_request_model="tale"}} {before.count("canary")}.0'
        }

    async def test_a_rule_gives_way_too(self, tmp_path):
        rules = [{"when": {"headers": {"x-canary": "1"}}, "variant": "canary"}]
        engines = {"main": CHAT, "spare": (CHAT, DOWN)}
        async with house(tmp_path, self.models(rules=rules), **engines) as (gateway, _):
            gateway.client.headers["x-canary"] = "1"
            answer = await gateway.chat()
        assert answer.headers["x-gateway-variant"] == "stable"

    async def test_another_variant_comes_before_a_fallback(self, tmp_path):
        models = {**self.models(fallback=["last"]), "last": {"backend": "last"}}
        engines = {"main": (CHAT, DOWN), "spare": CHAT, "last": CHAT}
        async with house(tmp_path, models, **engines) as (gateway, upstreams):
            answers = [await gateway.chat(user=f"user {n}") for n in range(6)]
        assert {one.headers["x-gateway-variant"] for one in answers} == {"canary"}
        assert asked(upstreams) == {"main": 0, "spare": 6, "last": 0}


async def test_no_retry_goes_to_one_that_is_down_while_a_fallback_is_there(tmp_path):
    async with (
        scripted(failing(500)) as broken,
        scripted(CHAT, probe=DOWN) as down,
        scripted(CHAT) as spare,
    ):
        document = {
            "backends": {
                "main": {"use": "openai", "replicas": [broken.url, down.url]},
                "spare": {"use": "openai", "replicas": [spare.url]},
            },
            "models": {"tale": {"backend": "main", "fallback": ["spare"]}, **SPARE},
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            answer = await gateway.chat()
    assert answer.headers["x-gateway-model"] == "spare"
    assert (len(broken.seen), len(down.seen), len(spare.seen)) == (1, 0, 1)
