"""The highest load is found wherever it lies."""

from __future__ import annotations

from functools import partial

import msgspec
import pytest

from bench.balancing.engine import Machine
from bench.balancing.figures import Figures
from bench.balancing.scenarios import Scenario, Stage
from bench.balancing.sustained import TTFT_BOUND, highest_sustained, sustains
from bench.balancing.traces import unshared
from gateway.policies import POLICIES

GOOD = Figures(
    rate=1.0, requests=100, ttft_p50=0.1, ttft_p95=0.2, ttft_p99=0.3, ttft_mean=0.1,
    token_p95=0.02, hit_rate=0.0, imbalance=1.0, served=1.0, tokens_per_second=100.0,
)  # fmt: skip


def fleet_that_bears(limit):
    def play(rate):
        late = TTFT_BOUND * 2 if rate > limit else TTFT_BOUND / 2
        return msgspec.structs.replace(GOOD, rate=rate, ttft_p95=late)

    return play


@pytest.mark.parametrize("limit", [0.01, 0.9, 8.0, 8.1, 7.9, 3000.0])
def test_the_limit_is_found_from_any_guess(limit):
    found = highest_sustained(fleet_that_bears(limit), 8.0, 0.01)
    assert limit / 1.01 <= found.rate <= limit


@pytest.mark.parametrize("limit", [0.0, 1e9])
def test_a_search_that_cannot_end_says_so(limit):
    with pytest.raises(ValueError, match="rate"):
        highest_sustained(fleet_that_bears(limit), 8.0)


def test_late_first_tokens_or_a_growing_queue_mean_that_a_load_is_too_high():
    assert sustains(GOOD)
    assert not sustains(msgspec.structs.replace(GOOD, ttft_p95=TTFT_BOUND * 1.01))
    assert not sustains(msgspec.structs.replace(GOOD, served=0.9))


@pytest.mark.slow
def test_one_replica_sustains_what_its_rates_allow():
    """Prompts of 500 tokens at 10,000 a second, in batches: 20 a second, and no more."""
    machine = Machine(prefill=10_000, step=0.001, per_sequence=0.0, prefix_caching=False)
    trace = partial(unshared, prompt_tokens=500, answer_tokens=2)
    scenario = Scenario("one", trace, 8000, machines=(machine,))
    stage = Stage(scenario, seeds=1)
    found = highest_sustained(lambda rate: stage.play(POLICIES["random"], rate), 10.0)
    assert 0.9 * 20 < found.rate < 20
