"""What holds for every policy."""

from __future__ import annotations

from random import Random

import pytest

from backends.load import Demand
from gateway.policies import POLICIES
from tests.support.candidates import FakeReplica, replicas, view


def some_replicas(rng):
    """One to six of eight, in any state."""
    return [
        FakeReplica(
            name,
            outstanding=rng.randrange(50),
            weighs=rng.choice([0.001, 0.5, 1.0, 1.0, 7.5, 100.0]),
            pending_tokens=rng.choice([0, 0, 10, 5000, 10**6]),
            ttft=rng.choice([None, 0.0, 0.2, 90.0]),
            said=rng.choice([None, Demand(rng.randrange(9), rng.randrange(9))]),
            others=rng.choice([0, 0, 7]),
        )
        for name in rng.sample("abcdefgh", rng.randint(1, 6))
    ]


@pytest.mark.parametrize("policy", POLICIES)
def test_the_only_one_is_picked(policy):
    (only,) = replicas("a", outstanding=9)
    assert POLICIES[policy]().pick([only], view(), Random(1)) is only


@pytest.mark.parametrize("policy", POLICIES)
def test_nobody_is_left_out_for_ever(policy):
    chosen, rng, some = POLICIES[policy](), Random(1), replicas("abc", outstanding=1)
    picked = {chosen.pick(some, view(session=b"%d" % n), rng).id for n in range(100)}
    assert picked == {"a", "b", "c"}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("seed", range(5))
def test_it_picks_among_those_it_is_offered_whatever_they_are_like(policy, seed):
    chosen, rng = POLICIES[policy](), Random(seed)
    for _ in range(100):
        offered, prompt = some_replicas(rng), b"%d" % rng.randrange(3) * rng.randrange(4000)
        asked = view(prompt, session=prompt[:3])
        assert chosen.pick(offered, asked, rng) in offered
        assert 0 <= asked.known <= len(prompt)
