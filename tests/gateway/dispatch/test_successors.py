from __future__ import annotations

import pytest

from backends.base import Adapter
from backends.readiness import Readiness
from gateway.dispatch.failover_rules import CannotGoOnError, Way
from gateway.dispatch.successors import Failed, Place, Search, says_the_same
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


def search(places, *failed, patience=8.0, **more):
    """One that began at 100 s; `failed` are replicas, the last one last, since then."""
    times = {one: failed.count(one) for one in failed}
    how = {one: Failed(failure(**more), count, 100.0) for one, count in times.items()}
    ways = {one: Way.REPLAY for there in places for one in there.variant.replicas}
    return Search(places, ways, how, (), failed[-1], 100.0, patience)


def asked(found):
    return None if found is None else (found[0], list(found[1]))


def test_a_healthy_one_goes_on_at_once(three):
    a, b, _ = three
    here = place(*three)
    assert asked(search([here], a).at(100.0)) == (here, [b])


def test_one_that_has_failed_gets_time_to_recover_each_time_more(three):
    a, b, _ = three
    here = place(a, b)
    once = search([here], a, b)
    assert once.at(101.9) is None
    assert asked(once.at(102.0)) == (here, [a])
    twice = search([here], a, a, b)
    assert asked(twice.at(103.0)) == (here, [b])
    assert asked(twice.at(104.0)) == (here, [a])
    assert asked(search([here], a, a, a, a, b).at(108.0)) == (here, [a])


def test_the_same_one_is_asked_where_no_other_is_healthy_unless_it_was_silent(three):
    a, _, c = three
    here = place(a, c)
    assert search([here], a).at(100.0) is None
    assert asked(search([here], a).at(102.0)) == (here, [a])
    assert search([here], a, leave_replica=True).at(107.9) is None
    assert asked(search([here], a, leave_replica=True).at(108.0)) == (here, [c])


def test_one_that_seems_to_be_down_is_better_than_nobody_unless_it_was_silent():
    a, b = replica("a", ready=False), replica("b", ready=False)
    here = place(a, b)
    assert search([here], a).at(107.0) is None
    assert asked(search([here], a, b).at(108.0)) == (here, [a, b])
    with pytest.raises(CannotGoOnError, match="nobody"):
        search([here], a, b, leave_replica=True).at(100.0)


def test_one_that_becomes_ready_while_somebody_waits_is_asked(three):
    a, _, c = three
    looking = search([place(a, c)], a)
    assert looking.at(100.0) is None
    c.observe(Readiness(True))
    assert asked(looking.at(100.1)) == (looking.places[0], [c])


def test_another_variant_comes_after_the_replicas_beside_it_and_before_those_that_are_down(three):
    a, b, c = three
    there = place(replica("d"))
    here = place(a, b)
    assert asked(search([here, there], a).at(100.0)) == (here, [b])
    assert asked(search([place(a, c), there], a).at(100.0))[0] is there


def test_one_that_said_something_else_comes_after_those_that_have_not_been_asked():
    a, b, d = replica("a"), replica("b"), replica("d")
    here, there = place(a, b), place(d)
    doubtful = search([here, there], a)._replace(diverged={b})
    assert asked(doubtful.at(100.0)) == (there, [d])
    assert asked(doubtful._replace(diverged={b, d}).at(100.0)) == (here, [b])


def test_one_that_has_no_way_to_go_on_is_not_asked():
    a, b = replica("a"), replica("b")
    here = place(a, b)
    without = search([here], a)
    assert asked(without._replace(ways={a: Way.REPLAY}).at(108.0)) == (here, [a])
    with pytest.raises(CannotGoOnError, match="nobody"):
        without._replace(ways={}).at(108.0)


def test_the_same_weights_are_those_of_the_same_name_and_adapter():
    def made(checkpoint, adapter=None):
        return Variant(checkpoint=checkpoint, adapter=adapter)

    assert says_the_same(made("tale"), made("tale"))
    assert not says_the_same(made("tale"), made("other"))
    assert not says_the_same(made("tale"), made("tale", "french"))
    assert says_the_same(made("tale", "french"), made("tale", "french"))
