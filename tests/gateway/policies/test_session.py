from __future__ import annotations

from collections import Counter
from math import ceil
from random import Random

import pytest

from gateway.policies.session import FACTOR, FLOOR, Session
from tests.support.candidates import FakeReplica, replicas, view

SESSIONS = [b"session-%d" % number for number in range(2000)]


def home(some, session):
    return Session().pick(some, view(session=session), Random(1)).id


def test_a_session_stays_where_it_is():
    some = replicas("abcd")
    assert [home(some, one) for one in SESSIONS] == [home(some[::-1], one) for one in SESSIONS]


def test_sessions_are_spread_by_weight():
    some = replicas("abc")
    some[0].weighs = 2.0
    homes = Counter(home(some, one) for one in SESSIONS)
    assert 900 < homes["a"] < 1100
    assert all(400 < homes[name] < 600 for name in "bc")


def test_a_replica_that_goes_moves_its_own_sessions_only():
    before, after = replicas("abcd"), replicas("acd")
    moved = [one for one in SESSIONS if home(before, one) != home(after, one)]
    assert {home(before, one) for one in moved} == {"b"}
    assert len(moved) < len(SESSIONS) / 3


def test_a_replica_that_comes_takes_sessions_and_moves_no_other():
    before, after = replicas("abc"), replicas("abcd")
    moved = [one for one in SESSIONS if home(before, one) != home(after, one)]
    assert {home(after, one) for one in moved} == {"d"}


@pytest.mark.parametrize("seed", range(5))
def test_no_replica_has_much_more_than_its_share_whoever_asks(seed):
    rng = Random(seed)
    some = replicas("abcde")
    some[0].weighs = 3.0
    busy = rng.sample(SESSIONS, 3)  # three sessions ask for all
    for sent in range(1, 400):
        picked = Session().pick(some, view(session=rng.choice(busy)), rng)
        picked.outstanding += 1
        share = sent / 7 * picked.weighs
        assert picked.outstanding <= max(FLOOR, ceil(FACTOR * share))


def test_one_that_is_full_gives_its_session_to_the_same_other_each_time():
    some = [FakeReplica("a", 0), FakeReplica("b", 0), FakeReplica("c", 0)]
    session = next(one for one in SESSIONS if home(some, one) == "a")
    some[0].outstanding = 60
    others = {home(some, session) for _ in range(5)}
    assert len(others) == 1
    assert others != {"a"}
