from __future__ import annotations

from collections import Counter
from random import Random
from types import SimpleNamespace

import pytest

from gateway.policies import POLICIES
from gateway.policies.least_outstanding import LeastOutstanding


def candidates(*loads):
    return [
        SimpleNamespace(name=name, outstanding=load)
        for name, load in zip("abcd", loads, strict=False)
    ]


def test_the_one_with_the_fewest_is_picked():
    assert LeastOutstanding().pick(candidates(3, 1, 2), Random(1)).name == "b"


def test_among_equals_each_has_its_turn():
    rng = Random(1)
    picks = Counter(LeastOutstanding().pick(candidates(1, 0, 0), rng).name for _ in range(400))
    assert set(picks) == {"b", "c"}
    assert min(picks.values()) > 150


@pytest.mark.parametrize("policy", POLICIES)
def test_any_policy_picks_the_only_one(policy):
    (only,) = candidates(9)
    assert POLICIES[policy]().pick([only], Random(1)) is only


@pytest.mark.parametrize("policy", POLICIES)
def test_any_policy_leaves_nobody_out(policy):
    chosen, rng = POLICIES[policy](), Random(1)
    assert {chosen.pick(candidates(1, 1, 1), rng).name for _ in range(100)} == {"a", "b", "c"}
