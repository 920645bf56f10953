"""What is a target, and when it is missed."""

from __future__ import annotations

import pytest

from bench.balancing.figures import Figures
from bench.balancing.targets import LEAST, LOADS, POLICY, SPREADING, targets


def figures(rate, wait=0.2):
    return Figures(
        rate=rate,
        requests=100,
        ttft_p50=wait / 2,
        ttft_p95=wait,
        ttft_p99=wait,
        ttft_mean=wait,
        token_p95=0.02,
        hit_rate=0.0,
        imbalance=1.0,
        served=1.0,
        tokens_per_second=100.0,
    )


HIGHEST = {POLICY: figures(16.0), SPREADING: figures(10.0, 1.5), LEAST: figures(12.0)}


def judged(scenario, highest, waits):
    """Targets, where policies wait as `waits` says at any load."""
    return targets(scenario, highest, lambda policy, rate: figures(rate, waits[policy]))


def test_shared_prefixes_are_compared_with_round_robin():
    found = judged("shared_prefixes", HIGHEST, {POLICY: 0.25})
    assert [target.found for target in found] == pytest.approx([1.6, 6.0])
    assert all(target.kept for target in found)


@pytest.mark.parametrize(
    ("rate", "wait", "kept"), [(14.9, 0.25, [False, True]), (15.1, 0.6, [True, False])]
)
def test_either_can_be_missed(rate, wait, kept):
    found = judged("shared_prefixes", {**HIGHEST, POLICY: figures(rate)}, {POLICY: wait})
    assert [target.kept for target in found] == kept


@pytest.mark.parametrize("scenario", ["unshared", "mixed_lengths"])
@pytest.mark.parametrize(("wait", "kept"), [(0.205, True), (0.21, False)])
def test_where_nothing_is_shared_it_may_be_three_per_cent_worse(scenario, wait, kept):
    found = judged(scenario, HIGHEST, {POLICY: wait, LEAST: 0.2})
    throughput, *waits = found
    assert throughput.kept
    assert len(waits) == 2 * len(LOADS)
    assert {target.kept for target in waits} == {kept}


def test_less_throughput_than_least_outstanding_is_a_miss():
    found = judged("unshared", {**HIGHEST, POLICY: figures(11.6)}, {POLICY: 0.2, LEAST: 0.2})
    assert not found[0].kept


def test_without_the_policies_that_they_are_about_there_are_none():
    assert not judged("shared_prefixes", {POLICY: figures(16.0)}, {})
    assert not judged("conversations", HIGHEST, {})
