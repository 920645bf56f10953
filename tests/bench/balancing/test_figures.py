"""Figures of requests whose times are known."""

from __future__ import annotations

from random import Random

import pytest

from bench.balancing.engine import Machine
from bench.balancing.figures import COOL_DOWN, WARM_UP, figures, quantile
from bench.balancing.fleet import Fleet, Host, Prompts, Replica
from bench.balancing.simulation import Simulation
from bench.balancing.traces import unshared
from gateway.policies import POLICIES


def test_a_quantile_is_one_of_the_values():
    values = [float(number) for number in range(100)]
    assert (quantile(values, 0.5), quantile(values, 0.95), quantile(values, 1.0)) == (50, 95, 99)
    assert quantile([3.0], 0.99) == 3.0


def test_an_idle_fleet_shows_the_times_of_its_machines():
    machine = Machine(prefill=1000, step=0.01, per_sequence=0.0)
    replicas = [Replica(Host(number, machine)) for number in range(2)]
    fleet = Fleet(replicas, POLICIES["round_robin"](), Prompts(), Random(1))
    simulation = Simulation(unshared(400, 1, prompt_tokens=90, answer_tokens=11), 0.1, [fleet])
    simulation.run()
    found = figures(0.1, [simulation])
    assert found.ttft_p50 == pytest.approx(0.1)
    assert found.token_p95 == pytest.approx(0.01, rel=0.2)
    assert found.requests == pytest.approx(400 * (1 - WARM_UP - COOL_DOWN), rel=0.1)
    assert found.served == pytest.approx(1.0, abs=0.01)
    assert found.tokens_per_second == pytest.approx(1.1, rel=0.1)
    assert found.hit_rate == 0
    assert found.imbalance == pytest.approx(1.0, abs=0.1)
