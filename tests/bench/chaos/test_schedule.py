"""A schedule disturbs, and never everything at once."""

from __future__ import annotations

import pytest

from bench.chaos.schedule import What, schedule

SECONDS = 120.0
DOWN = {What.KILL, What.RESTART, What.FREEZE}
UP = {What.START, What.THAW}


def drawn(seed):
    return schedule(seed, SECONDS, engines=3, own=2, gap=1.5)


def test_the_same_seed_is_the_same_run():
    assert drawn(7) == drawn(7)
    assert drawn(7) != drawn(8)


@pytest.mark.parametrize("seed", range(20))
def test_it_is_in_order_and_ends_in_time(seed):
    times = [deed.at for deed in drawn(seed)]
    assert times == sorted(times)
    assert times[-1] <= SECONDS


@pytest.mark.parametrize("seed", range(20))
def test_one_engine_is_always_left_alone_and_what_is_taken_down_comes_back(seed):
    down = set()
    for deed in drawn(seed):
        if deed.what in DOWN:
            assert deed.engine not in down
            if deed.engine < 2 or deed.what is What.FREEZE:
                down.add(deed.engine)
            assert len(down) < 3
        elif deed.what in UP:
            down.remove(deed.engine)
    assert not down


def test_everything_happens():
    assert {deed.what for seed in range(5) for deed in drawn(seed)} == set(What)


@pytest.mark.parametrize("seed", range(5))
def test_the_gateways_own_engine_is_only_killed_and_held_still(seed):
    theirs = {deed.what for deed in drawn(seed) if deed.engine == 2}
    assert theirs <= {What.KILL, What.FREEZE, What.THAW}
