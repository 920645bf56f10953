from __future__ import annotations

from types import SimpleNamespace

import pytest

from backends.readiness import Condition, Readiness
from gateway.config.structs import Fallback
from gateway.control.drain import Phase
from gateway.control.readiness import report
from gateway.routing.replica import Replica


def replica(name, reason=""):
    one = Replica("engine", object(), f"http://{name}")
    one.observe(Readiness(not reason, reason))
    return one


def snapshot(fallback=(), **models):
    routes = {
        name: SimpleNamespace(
            name=name,
            fallback=Fallback(unavailable=fallback),
            variants=[SimpleNamespace(replicas=tuple(group), adapter=None) for group in variants],
        )
        for name, variants in models.items()
    }
    table = SimpleNamespace(routes=tuple(routes.values()), find=routes.get)
    replicas = [one for variants in models.values() for group in variants for one in group]
    return SimpleNamespace(table=table, replicas=tuple(replicas))


def test_one_replica_of_one_model_is_enough():
    said = report(
        snapshot(a=[[replica("x", "down"), replica("y")]], b=[[replica("z", "loading")]]),
        Phase.SERVING,
        0.0,
    )
    assert said.ready
    assert said.models == {"a": "ready", "b": "engine@z: loading"}


def test_each_replica_is_told_with_what_kind_of_reason_it_has():
    wrong = replica("x")
    wrong.observe(Readiness(False, "misconfigured: no key", Condition.MISCONFIGURED))
    limited = replica("z")
    limited.leave_alone(12.0)
    said = report(
        snapshot(a=[[wrong, replica("y"), limited, replica("w", "HTTP 503")]]), Phase.SERVING, 0.0
    )
    assert said.replicas == {
        "engine@x": "misconfigured: no key",
        "engine@y": "ready",
        "engine@z": "rate_limited: asked to be left alone for 12 s more",
        "engine@w": "unhealthy: HTTP 503",
    }


def test_none_at_all_is_a_reason():
    said = report(snapshot(a=[[replica("x", "HTTP 503")], []]), Phase.SERVING, 0.0)
    assert not said.ready
    assert "no model" in said.reason
    assert said.models == {"a": "engine@x: HTTP 503"}


def test_nobody_to_ask_is_a_reason():
    said = report(snapshot(a=[[]]), Phase.SERVING, 0.0)
    assert said.models == {"a": "no replica has been found"}


def test_a_reason_that_replicas_share_is_told_once():
    group = [replica("x", "loading"), replica("y", "HTTP 503"), replica("z", "loading")]
    said = report(snapshot(a=[group]), Phase.SERVING, 0.0)
    assert said.models == {"a": "engine@x, engine@z: loading; engine@y: HTTP 503"}


def test_a_model_whose_fallback_is_ready_is_answered():
    models = {"a": [[replica("x", "down")]], "b": [[replica("y")]], "c": [[replica("z", "gone")]]}
    said = report(snapshot(fallback=("c", "b"), **models), Phase.SERVING, 0.0).models
    assert said["a"] == "ready through b (engine@x: down)"
    assert said["b"] == "ready"


@pytest.mark.parametrize("phase", [Phase.LEAVING, Phase.DRAINING, Phase.CUT])
def test_on_the_way_out_it_is_never_ready(phase):
    said = report(snapshot(a=[[replica("x")]]), phase, 0.0)
    assert not said.ready
    assert phase in said.reason
