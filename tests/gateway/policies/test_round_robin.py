from __future__ import annotations

from random import Random

from gateway.policies.round_robin import RoundRobin


def test_one_after_the_other():
    policy = RoundRobin()
    picks = "".join(policy.pick("abc", Random(1)) for _ in range(6))
    assert picks in ("abcabc", "bcabca", "cabcab")


def test_where_one_drops_out_the_others_still_take_turns():
    policy = RoundRobin()
    policy.pick("abc", Random(1))
    picks = "".join(policy.pick("ab", Random(1)) for _ in range(4))
    assert picks in ("abab", "baba")
