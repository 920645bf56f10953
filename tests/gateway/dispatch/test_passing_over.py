from __future__ import annotations

from hashlib import blake2b
from types import SimpleNamespace

import pytest

from backends.base import Endpoint
from backends.capabilities import Capability
from backends.readiness import Condition, Readiness
from gateway.dispatch.passing_over import Arm, arm_for, may_answer, next_route, why_none
from gateway.dispatch.verdict import Why
from gateway.routing.replica import Replica
from gateway.routing.table import Variant

NOW = 100.0
ASK = SimpleNamespace(needs=frozenset({Capability.CHAT}), endpoint=Endpoint.CHAT)
CHATS = SimpleNamespace(capabilities=frozenset({Capability.CHAT}))
EMBEDS = SimpleNamespace(
    capabilities=frozenset({Capability.EMBEDDINGS}), counts_chats=False, why_not={}
)


def ready():
    one = Replica("engine", CHATS, "http://a")
    one.observe(Readiness(True))
    return one


def limited(overloaded=True):
    one = ready()
    one.leave_alone(NOW + 60, overloaded=overloaded)
    return one


def down(condition=Condition.UNHEALTHY):
    one = ready()
    one.observe(Readiness(False, "x", condition))
    return one


def ejected(until):
    one = ready()
    one.eject(0.0, until, "x")
    return one


def variant(name, *replicas, weight=1.0, backend=CHATS):
    for one in replicas:
        one.backend = backend
    return Variant(
        name=name,
        weight=weight,
        backend="engine",
        replicas=replicas,
        policy=None,
        upstream=None,
        adapter=None,
        checkpoint=None,
        seed=blake2b(digest_size=8, key=name.encode()),
    )


def arm(chosen, *others):
    route = SimpleNamespace(variants=(chosen, *others))
    found = arm_for(ASK, route, chosen, b"key", NOW)
    return found.variant.name, found.passed_over and found.passed_over.name


@pytest.mark.parametrize(
    ("replicas", "may"),
    [
        ([ready()], True),
        ([down(), ready()], True),
        ([ejected(until=NOW - 1)], True),  # one request may try it, probes or none
        ([ejected(until=NOW + 1)], False),
        ([down(), limited()], False),
        ([down(Condition.LOADING)], False),
        ([], False),
    ],
    ids=["ready", "one of two", "trial is due", "ejected", "down", "loading", "none"],
)
def test_whether_a_variant_may_answer(replicas, may):
    assert may_answer(variant("stable", *replicas), NOW) == may


def test_while_its_trial_is_under_way_nobody_else_goes_there():
    one = ejected(until=NOW - 1)
    one.breaker.sent(NOW)
    assert not may_answer(variant("stable", one), NOW + 1)
    assert may_answer(variant("stable", one), NOW + 11), "a trial does not last for ever"


@pytest.mark.parametrize(
    ("replicas", "why"),
    [
        ([limited(), limited()], Why.OVERLOADED),
        ([limited(), down()], Why.UNAVAILABLE),
        ([limited(), limited(overloaded=False)], Why.UNAVAILABLE),  # 503 with `Retry-After`
        ([ejected(until=NOW + 1)], Why.UNAVAILABLE),
        ([down()], Why.UNAVAILABLE),
        ([], Why.UNAVAILABLE),
    ],
    ids=["all limited", "one down", "one gave 503", "ejected", "down", "none"],
)
def test_which_cause_it_is_that_nobody_may(replicas, why):
    assert why_none(replicas, NOW) is why


class TestArm:
    def test_the_one_chosen_where_somebody_there_may(self):
        assert arm(variant("stable", down(), ready()), variant("canary", ready())) == (
            "stable",
            None,
        )

    def test_another_one_where_nobody_there_may(self):
        assert arm(variant("stable", down()), variant("canary", ready())) == ("canary", "stable")

    def test_it_is_back_with_its_replica(self):
        one = down()
        stable, canary = variant("stable", one), variant("canary", ready())
        assert arm(stable, canary) == ("canary", "stable")
        one.observe(Readiness(True))
        assert arm(stable, canary) == ("stable", None)

    def test_the_one_chosen_where_nobody_anywhere_may(self):
        assert arm(variant("stable", down()), variant("canary", limited())) == ("stable", None)

    def test_nobody_goes_to_a_variant_that_is_for_rules_only(self):
        assert arm(variant("stable", down()), variant("test", ready(), weight=0)) == (
            "stable",
            None,
        )

    def test_nor_to_one_that_cannot(self):
        other = variant("canary", ready(), backend=EMBEDS)
        assert arm(variant("stable", down()), other) == ("stable", None)

    def test_where_the_one_chosen_cannot_another_one_that_may_is_best(self):
        chosen = variant("stable", ready(), backend=EMBEDS)
        others = [variant("a", down()), variant("b", ready()), variant("c", down())]
        assert arm(chosen, *others) == ("b", None), "it was not to answer this one anyway"

    def test_else_one_that_can(self):
        chosen = variant("stable", ready(), backend=EMBEDS)
        assert arm(chosen, variant("canary", down())) == ("canary", None)

    def test_else_the_one_chosen_says_why_not(self):
        chosen = variant("stable", ready(), backend=EMBEDS)
        assert arm_for(ASK, SimpleNamespace(variants=(chosen,)), chosen, b"", NOW) == Arm(chosen)


@pytest.mark.parametrize(
    ("fallbacks", "passed_over", "there", "found", "left"),
    [
        ("ab", "x", "ab", "a", "x"),
        ("ab", "x", "b", "b", "x"),
        ("ab", "xy", "", "x", "y"),
        ("", "x", "", "x", ""),
        ("ab", "", "", "a", ""),
        ("", "", "", None, ""),
    ],
    ids=[
        "the first that is ready",
        "also where that is a later one",
        "then who was passed over, the first first",
        "also where there is no other",
        "then the others",
        "then nobody",
    ],
)
def test_whom_to_ask_next(fallbacks, passed_over, there, found, left):
    waiting = list(passed_over)
    assert next_route(list(fallbacks), waiting, lambda one: one in there) == found
    assert "".join(waiting) == left
