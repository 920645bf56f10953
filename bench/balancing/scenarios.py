"""What is played: a trace, and the machines that it meets."""

from __future__ import annotations

from collections.abc import Callable
from copy import copy
from random import Random
from typing import NamedTuple

from bench.balancing.engine import Machine
from bench.balancing.figures import Figures, figures
from bench.balancing.fleet import Fleet, Host, Prompts, Replica
from bench.balancing.simulation import Death, Simulation
from bench.balancing.traces import (
    Conversation,
    Make,
    conversations,
    mixed_lengths,
    shared_prefixes,
    unshared,
)
from gateway.policies import Policy

REPLICAS = 8


class Scenario(NamedTuple):
    """A load, and a fleet."""

    name: str
    trace: Make
    requests: int
    machines: tuple[Machine, ...] = (Machine(),) * REPLICAS
    deaths: tuple[Death, ...] = ()
    gateways: int = 1
    """That know nothing of each other."""
    guess: float = 8.0
    """A rate in the neighbourhood of what it may sustain."""

    def on(self, *, chunked: bool, kv_tokens: int) -> Scenario:
        """The same on engines that are as said, and as fast as they were."""
        return self._replace(
            machines=tuple(
                machine._replace(chunked=chunked, kv_tokens=kv_tokens) for machine in self.machines
            )
        )


SCENARIOS = (
    Scenario("shared_prefixes", shared_prefixes, 4000),
    Scenario("three_gateways", shared_prefixes, 4000, gateways=3),
    Scenario("unshared", unshared, 8000, guess=32.0),
    Scenario("mixed_lengths", mixed_lengths, 8000, guess=24.0),
    Scenario("conversations", conversations, 12_000, guess=5.0),
    Scenario(
        "one_half_as_fast",
        mixed_lengths,
        8000,
        machines=(Machine().slower(2), *(Machine(),) * (REPLICAS - 1)),
        guess=24.0,
    ),
    Scenario(
        "one_dies",
        shared_prefixes,
        4000,
        deaths=(Death(replica=3, at=0.4, back=0.7),),
    ),
)


class Stage:
    """One scenario with its traces, which every policy is given anew."""

    def __init__(
        self, scenario: Scenario, seeds: int, scale: float = 1.0, prompts: Prompts | None = None
    ) -> None:
        self.scenario = scenario
        self._prompts = prompts or Prompts()
        count = max(50, round(scenario.requests * scale))
        self._traces: list[tuple[int, list[Conversation]]] = [
            (seed, scenario.trace(count, seed)) for seed in range(1, seeds + 1)
        ]

    def hashed_by(self, prompts: Prompts) -> Stage:
        """The same traces, with prompts that are cut into blocks in another way."""
        other = copy(self)
        other._prompts = prompts
        return other

    def play(self, policy: Callable[[], Policy], rate: float) -> Figures:
        """Each trace at `rate`, through a new policy and a new fleet."""
        played = [self._simulation(trace, policy, rate, seed) for seed, trace in self._traces]
        for simulation in played:
            simulation.run()
        return figures(rate, played)

    def _simulation(
        self, trace: list[Conversation], policy: Callable[[], Policy], rate: float, seed: int
    ) -> Simulation:
        hosts = [Host(number, machine) for number, machine in enumerate(self.scenario.machines)]
        fleets = [
            Fleet([*map(Replica, hosts)], policy(), self._prompts, Random(seed * 100 + number))
            for number in range(self.scenario.gateways)
        ]
        return Simulation(trace, rate, fleets, self.scenario.deaths)
