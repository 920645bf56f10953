from __future__ import annotations

import random

from backends.launch.restarts import LOOP_AFTER, STABLE, Restarts


def longest(_: float, most: float) -> float:
    return most


def test_the_wait_doubles_and_then_it_is_a_loop():
    restarts = Restarts(longest)
    waits = []
    while not restarts.looping:
        waits.append(restarts.after_death(0.0))
    assert waits == [0.5, 1.0, 2.0, 60.0]
    assert restarts.in_a_row == LOOP_AFTER
    assert restarts.after_death(0.0) == 60.0


def test_a_hopeless_death_is_a_loop_at_once():
    restarts = Restarts(longest)
    assert restarts.after_death(0.0, hopeless=True) == 60.0
    assert restarts.looping
    assert restarts.after_death(STABLE) == 0.5


def test_a_stable_life_begins_a_new_count():
    restarts = Restarts(longest)
    for _ in range(LOOP_AFTER):
        restarts.after_death(STABLE - 1)
    assert restarts.looping
    assert restarts.after_death(STABLE) == 0.5
    assert not restarts.looping


def test_no_wait_is_without_jitter_nor_below_half():
    restarts = Restarts(random.Random(1).uniform)
    assert 0.25 <= restarts.after_death(0) <= 0.5
    waits = {Restarts(random.Random(seed).uniform).after_death(0) for seed in range(20)}
    assert len(waits) == 20
