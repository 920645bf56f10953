"""Queues behave as theory says, deaths lose nothing, and the same seed gives the same."""

from __future__ import annotations

import math
from random import Random

import pytest

from bench.balancing.engine import Machine
from bench.balancing.fleet import Fleet, Host, Prompts, Replica
from bench.balancing.simulation import Death, Simulation
from bench.balancing.traces import conversations, shared_prefixes, unshared
from gateway.policies import POLICIES

FOUR = (Machine(),) * 4


def play(trace, rate, policy="round_robin", machines=FOUR, deaths=()):
    replicas = [Replica(Host(number, machine)) for number, machine in enumerate(machines)]
    fleet = Fleet(replicas, POLICIES[policy](), Prompts(), Random(1))
    simulation = Simulation(trace, rate, [fleet], deaths)
    simulation.run()
    return simulation


@pytest.mark.slow
@pytest.mark.parametrize("load", [0.5, 0.8])
def test_one_at_a_time_is_an_m_d_1_queue(load):
    """The mean wait of Pollaczek and Khinchine, with a service time that is always the same."""
    machine = Machine(prefill=10_000, step=0.01, max_sequences=1, prefix_caching=False)
    service = 0.01 + 1000 / 10_000
    waits = []
    for seed in (1, 2):
        trace = unshared(20_000, seed, prompt_tokens=1000, answer_tokens=1)
        flights = play(trace, load / service, machines=(machine,)).flights
        waits += [flight.first - flight.arrived - service for flight in flights]
    assert min(waits) > -1e-9
    assert sum(waits) / len(waits) == pytest.approx(load * service / (2 * (1 - load)), rel=0.05)


@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_request_is_answered_once_and_in_full(policy):
    trace = shared_prefixes(200, 1, prefixes=10, answer_tokens=50)
    simulation = play(trace, 4.0, policy)
    assert len(simulation.flights) == 200
    for flight in simulation.flights:
        assert flight.arrived < flight.first < flight.done < math.inf
        assert flight.attempts == 1
    for replica in simulation.fleets[0].replicas:
        assert (replica.outstanding, replica.pending_tokens) == (0, 0)
        assert replica.host.engine.cache.usage == 0


def test_turns_follow_the_answers_before_them():
    trace = conversations(100, 1, pause=2.0)
    simulation = play(trace, 1.0, "session")
    assert len(simulation.flights) == sum(len(one.turns) for one in trace)
    before, stayed, moved = {}, 0, 0
    for flight in simulation.flights:
        if flight.turn:
            earlier = before[flight.conversation.session]
            assert flight.arrived == pytest.approx(earlier.done + flight.asked.pause)
            if flight.attempt.replica is earlier.attempt.replica:
                stayed += 1
                # All but the new question, and the block in which the answer ended.
                assert flight.cached >= earlier.asked.work.tokens - 17
            else:
                moved += 1
        before[flight.conversation.session] = flight
    assert stayed > 2 * moved


def test_what_a_dying_replica_had_goes_on_elsewhere_and_it_is_left_alone():
    trace = unshared(400, 1, prompt_tokens=500, answer_tokens=100)
    simulation = play(trace, 20.0, "least_outstanding", deaths=[Death(2, at=0.3, back=0.6)])
    dead = simulation.fleets[0].replicas[2]
    died, back = 0.3 * simulation.arrivals_end, 0.6 * simulation.arrivals_end
    moved = [flight for flight in simulation.flights if flight.generated]
    assert moved
    assert all(flight.attempt.replica is not dead for flight in moved)
    assert all(flight.done < math.inf for flight in simulation.flights)
    while_dead = [one for one in simulation.flights if died < one.arrived < back]
    assert all(flight.attempt.replica is not dead for flight in while_dead)
    # Its breaker opened: only trials were refused, not every fourth request.
    assert sum(flight.attempts > 1 for flight in while_dead) < len(while_dead) / 8
    assert any(one.attempt.replica is dead for one in simulation.flights if one.arrived > back)


def test_where_all_are_dead_a_request_is_given_up():
    trace = unshared(20, 1, prompt_tokens=100, answer_tokens=5)
    machines = (Machine(),)
    simulation = play(trace, 1.0, machines=machines, deaths=[Death(0, at=0.5, back=2.0)])
    lost = [flight for flight in simulation.flights if flight.done == math.inf]
    assert 5 < len(lost) < 15


def test_the_same_seed_gives_the_same():
    def waits():
        trace = shared_prefixes(200, 3, prefixes=10, answer_tokens=50)
        return [one.first - one.arrived for one in play(trace, 6.0, "p2c_ewma").flights]

    assert waits() == waits()
