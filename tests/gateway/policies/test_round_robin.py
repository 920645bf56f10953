from __future__ import annotations

from random import Random

import pytest

from gateway.policies.round_robin import RoundRobin
from tests.support.candidates import FakeReplica, replicas, view


def played(policy, candidates, times):
    return "".join(policy.pick(candidates, view(), Random(1)).id for _ in range(times))


def test_one_after_the_other():
    assert played(RoundRobin(), replicas("abc"), 6) == "cbacba"


def test_where_one_drops_out_the_others_still_take_turns():
    policy = RoundRobin()
    played(policy, replicas("abc"), 1)
    assert played(policy, replicas("ab"), 4) in ("abab", "baba")


def test_the_heavier_one_comes_more_often_and_never_all_at_once():
    heavy = [FakeReplica("a", weighs=5.0), FakeReplica("b"), FakeReplica("c")]
    assert played(RoundRobin(), heavy, 7) == "aacabaa"


@pytest.mark.parametrize(
    "weights", [Random(seed).choices(range(1, 10), k=1 + seed % 6) for seed in range(20)]
)
def test_a_round_has_each_as_often_as_it_weighs(weights):
    some = [
        FakeReplica(name, weighs=weight) for name, weight in zip("abcdef", weights, strict=False)
    ]
    picks = played(RoundRobin(), some, 2 * sum(weights))
    assert [picks.count(one.id) for one in some] == [2 * weight for weight in weights]


def test_what_it_remembers_stays_small_while_replicas_come_and_go():
    policy = RoundRobin()
    for number in range(500):
        some = [FakeReplica(f"{number}"), FakeReplica(f"{number + 1}"), FakeReplica("stays")]
        policy.pick(some, view(), Random(1))
    assert len(policy._credits) < 32
