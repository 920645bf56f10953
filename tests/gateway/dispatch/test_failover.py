"""Whom to ask; what becomes of answers is tested in tests/faults and tests/e2e, on sockets."""

from __future__ import annotations

import pytest

from backends.base import Adapter, Readiness
from gateway.dispatch.failover import Place, says_the_same, successors
from gateway.dispatch.verdict import Failure
from gateway.errors import UpstreamFailed
from gateway.routing.replica import Replica


class Variant:
    def __init__(self, *replicas, checkpoint=None, adapter=None):
        self.replicas, self.checkpoint = replicas, checkpoint
        self.adapter = None if adapter is None else Adapter(adapter, f"/{adapter}")

    def able(self):
        return self.replicas


def replica(name, ready=True):
    one = Replica("engine", object(), f"http://{name}")
    one.observe(Readiness(ready, "" if ready else "down"))
    return one


def failure(**fields):
    return Failure(cause="reset", error=UpstreamFailed("x"), **fields)


def place(*replicas):
    return Place(None, Variant(*replicas))


@pytest.fixture
def three():
    return replica("a"), replica("b"), replica("c", ready=False)


def asked(places, failed, broke):
    found = successors(places, failed, broke, 0.0)
    return None if found is None else (found[1], list(found[2]))


def test_a_healthy_one_goes_on(three):
    a, b, _ = three
    here = place(*three)
    assert asked([here], {a: failure()}, a) == (here, [b])


def test_one_that_has_failed_and_is_back_is_better_than_the_one_that_just_did(three):
    a, b, _ = three
    here = place(*three)
    assert asked([here], {a: failure(), b: failure()}, b) == (here, [a])


def test_the_same_one_is_asked_where_no_other_is_healthy_unless_it_was_silent(three):
    a, _, c = three
    here = place(a, c)
    assert asked([here], {a: failure()}, a) == (here, [a])
    assert asked([here], {a: failure(leave_replica=True)}, a) == (here, [c])


def test_one_that_seems_to_be_down_is_better_than_nobody_unless_it_was_silent():
    a, b = replica("a", ready=False), replica("b", ready=False)
    here = place(a, b)
    assert asked([here], {a: failure()}, a) == (here, [b])
    assert asked([here], {a: failure(), b: failure()}, b) == (here, [a, b])
    silent = {one: failure(leave_replica=True) for one in (a, b)}
    assert asked([here], silent, b) is None


def test_another_variant_comes_after_the_replicas_beside_it_and_before_those_that_are_down(three):
    a, b, c = three
    d = replica("d")
    there = place(d)
    here = place(a, b)
    assert asked([here, there], {a: failure()}, a) == (here, [b])
    assert asked([place(a, c), there], {a: failure()}, a) == (there, [d])


def test_the_same_weights_are_those_of_the_same_name_and_adapter():
    def made(checkpoint, adapter=None):
        return Variant(checkpoint=checkpoint, adapter=adapter)

    assert says_the_same(made("tale"), made("tale"))
    assert not says_the_same(made("tale"), made("other"))
    assert not says_the_same(made("tale"), made("tale", "french"))
    assert says_the_same(made("tale", "french"), made("tale", "french"))
