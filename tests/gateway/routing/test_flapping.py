from __future__ import annotations

from gateway.routing.flapping import LATELY, MOST, Flapping


def test_one_that_is_new_or_was_away_once_is_believed_at_once():
    one = Flapping()
    assert one.back(0.0)
    one.left(1.0)
    assert one.back(2.0)


def test_each_further_time_costs_a_look():
    one = Flapping()
    for now in (0.0, 10.0, 20.0):
        one.left(now)
    assert [one.back(30.0) for _ in range(3)] == [False, False, True]


def test_the_looks_must_be_in_a_row():
    one = Flapping()
    one.left(0.0)
    one.left(1.0)
    assert not one.back(2.0)
    one.missing()
    assert [one.back(3.0), one.back(4.0)] == [False, True]


def test_it_is_forgotten_after_a_while_and_bounded():
    one = Flapping()
    for now in range(100):
        one.left(float(now))
    assert one.needed(100.0) == MOST
    assert one.needed(99.0 + LATELY) == 1
