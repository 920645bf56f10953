from __future__ import annotations

import heapq
from collections import Counter
from itertools import count
from math import inf
from random import Random

import pytest

from gateway.routing.admission import Gate, Moved, Priority, Reason, State, Visitor


def arrive(gate, now=0.0, **fields):
    visitor = Visitor(**fields)
    gate.arrive(visitor, now)
    return visitor


def reason(visitor):
    return None if visitor.refusal is None else visitor.refusal.reason


def shared(gate, rates, *, until, rng):
    """How many of each key are served, a second each, where nobody waits more than five."""
    served, waiting, inside, ends = Counter(), [], None, inf
    due = dict.fromkeys(rates, 0.0)
    while True:
        waiting = [one for one in waiting if one.state is State.WAITING]
        patience = min((one.until for one in waiting), default=inf)
        now = min(ends, patience, *due.values())
        if now >= until:
            return served
        moved = Moved()
        if now == ends:
            ends, moved = inf, gate.leave(inside, now)
        elif now == patience:
            gate.give_up(min(waiting, key=lambda one: one.until))
        else:
            key = min(due, key=due.__getitem__)
            due[key] = now + rng.expovariate(rates[key])
            waiting.append(Visitor(key=key, until=now + 5))
            moved = gate.arrive(waiting[-1], now)
        for inside in moved.inside:
            served[inside.key] += 1
            ends = now + 1


class TestPlaces:
    def test_nobody_waits_while_there_is_room(self):
        gate = Gate(2, 1)
        states = [arrive(gate).state for _ in range(4)]
        assert states == [State.INSIDE, State.INSIDE, State.WAITING, State.OUTSIDE]
        assert gate.inside == 2

    def test_who_leaves_lets_the_next_one_in(self):
        gate = Gate(1, 5)
        first, second, third = (arrive(gate) for _ in range(3))
        assert gate.leave(first, 1.0).inside == [second]
        assert (second.state, third.state, gate.inside) == (State.INSIDE, State.WAITING, 1)

    def test_a_full_queue_refuses_and_says_when_to_come_back(self):
        gate = Gate(2, 4)
        first = arrive(gate)
        gate.leave(first, 3.0)  # it was inside for three seconds
        visitors = [arrive(gate, 3.0) for _ in range(7)]
        assert [reason(one) for one in visitors] == [None] * 6 + [Reason.FULL]
        assert visitors[-1].refusal.retry_after == pytest.approx(5 * 3.0 / 2)

    def test_without_a_queue_nobody_waits(self):
        gate = Gate(1, 0)
        arrive(gate)
        assert reason(arrive(gate)) is Reason.FULL

    def test_who_does_not_wait_gets_a_free_place_or_none(self):
        gate, first, second = Gate(1, 5), Visitor(), Visitor()
        assert gate.try_enter(first, 0.0)
        assert not gate.try_enter(second, 0.0)
        assert (second.state, gate.inside, gate.waiting(Priority.NORMAL)) == (State.OUTSIDE, 1, 0)

    def test_who_goes_is_not_called(self):
        gate = Gate(1, 5)
        first, second, third = (arrive(gate) for _ in range(3))
        gate.withdraw(second)
        assert gate.leave(first, 1.0).inside == [third]
        assert second.state is State.OUTSIDE

    def test_who_has_waited_long_enough_is_told_so(self):
        gate = Gate(1, 5)
        arrive(gate)
        second = arrive(gate)
        gate.give_up(second)
        assert reason(second) is Reason.TIMEOUT
        assert gate.waiting(Priority.NORMAL) == 0

    def test_more_places_are_filled_at_once_and_fewer_by_and_by(self):
        gate = Gate(1, 5)
        visitors = [arrive(gate) for _ in range(4)]
        gate.places = 3
        assert gate.fill(0.0).inside == visitors[1:3]
        gate.places = 1
        assert not gate.leave(visitors[0], 1.0).inside
        assert not gate.leave(visitors[1], 1.0).inside
        assert gate.leave(visitors[2], 1.0).inside == [visitors[3]]


class TestPriority:
    def test_the_most_urgent_goes_first(self):
        gate = Gate(1, 9)
        inside = arrive(gate)
        order = [Priority.LOW, Priority.NORMAL, Priority.HIGH, Priority.NORMAL]
        visitors = [arrive(gate, priority=one) for one in order]
        called = []
        for _ in range(4):
            (inside,) = gate.leave(inside, 1.0).inside
            called.append(inside)
        assert called == [visitors[2], visitors[1], visitors[3], visitors[0]]

    def test_a_full_queue_sheds_the_lowest_class_and_of_it_the_last(self):
        gate = Gate(1, 3)
        arrive(gate)
        normal = arrive(gate)
        low, last = (arrive(gate, priority=Priority.LOW) for _ in range(2))
        arrive(gate, priority=Priority.HIGH)
        assert (reason(last), reason(low), reason(normal)) == (Reason.SHED, None, None)
        arrive(gate)
        assert reason(low) is Reason.SHED
        assert reason(arrive(gate)) is Reason.FULL  # its own class makes no room
        assert reason(arrive(gate, priority=Priority.LOW)) is Reason.FULL
        arrive(gate, priority=Priority.HIGH)
        assert gate.waiting(Priority.HIGH) == 2


class TestFairness:
    def test_a_key_that_asks_a_lot_does_not_push_back_another_one(self):
        gate = Gate(1, 99)
        inside = arrive(gate, key="greedy")
        for _ in range(50):
            arrive(gate, key="greedy")
        polite = [arrive(gate, key="polite") for _ in range(3)]
        called = []
        for _ in range(7):
            (inside,) = gate.leave(inside, 1.0).inside
            called.append(inside)
        assert set(polite) <= set(called)

    def test_nor_does_it_keep_the_queue_for_itself(self):
        gate = Gate(1, 10)
        arrive(gate, key="greedy")
        greedy = [arrive(gate, key="greedy") for _ in range(20)]
        polite = arrive(gate, key="polite")
        assert polite.state is State.WAITING
        assert [reason(one) for one in greedy[:10]] == [None] * 9 + [Reason.SHED]

    def test_places_are_shared_by_what_is_asked_for(self):
        gate = Gate(1, 9999)
        inside = arrive(gate, key="small")
        for _ in range(300):
            arrive(gate, key="small", cost=1.0)
            arrive(gate, key="large", cost=4.0)
        called = Counter()
        for _ in range(200):
            (inside,) = gate.leave(inside, 1.0).inside
            called[inside.key] += 1
        assert called["small"] / called["large"] == pytest.approx(4, rel=0.1)

    @pytest.mark.parametrize("seed", [1, 2])
    def test_who_waits_in_vain_is_not_charged_for_it(self, seed):
        served = shared(Gate(1, 100), {"eager": 5.0, "steady": 1.0}, until=400, rng=Random(seed))
        assert served["eager"] / served["steady"] == pytest.approx(1, abs=0.15)

    def test_what_is_withdrawn_moves_the_rest_of_its_key_up(self):
        gate = Gate(1, 99)
        inside = arrive(gate, key="a")
        taken_back = [arrive(gate, key="a") for _ in range(5)]
        kept = arrive(gate, key="a")
        others = [arrive(gate, key="b") for _ in range(3)]
        for one in taken_back:
            gate.withdraw(one)
        called = []
        for _ in range(4):
            (inside,) = gate.leave(inside, 1.0).inside
            called.append(inside)
        assert called == [others[0], kept, *others[1:]]

    def test_who_was_quiet_has_saved_nothing_up(self):
        gate = Gate(1, 999)
        inside = arrive(gate, key="busy")
        for _ in range(100):
            arrive(gate, key="busy")
        for _ in range(50):
            (inside,) = gate.leave(inside, 1.0).inside
        for _ in range(100):
            arrive(gate, key="late")
        called = Counter()
        for _ in range(40):
            (inside,) = gate.leave(inside, 1.0).inside
            called[inside.key] += 1
        assert abs(called["late"] - called["busy"]) <= 2

    def test_many_keys_are_not_remembered_for_ever(self):
        gate = Gate(1, 10)
        for number in range(1000):
            gate.leave(arrive(gate, key=str(number)), 0.0)
        assert not gate._classes[Priority.NORMAL]._finish


class TestDeadlines:
    def test_what_cannot_be_served_in_time_is_sent_away_at_once(self):
        gate = Gate(1, 99)
        gate.leave(arrive(gate), 2.0)
        arrive(gate, 2.0)
        waiting = arrive(gate, 2.0, deadline=2.0 + 4.1)
        late = arrive(gate, 2.0, deadline=2.0 + 4.1)
        assert (waiting.state, reason(late)) == (State.WAITING, Reason.LATE)
        assert late.refusal.retry_after == pytest.approx(4.0)

    def test_nor_does_anybody_wait_who_would_be_told_so_later(self):
        gate = Gate(1, 99)
        gate.leave(arrive(gate), 2.0)
        arrive(gate, 2.0)
        assert arrive(gate, 2.0, until=2.0 + 2.1).state is State.WAITING
        assert reason(arrive(gate, 2.0, until=2.0 + 2.1)) is Reason.LATE

    def test_for_whom_it_is_too_late_by_now_no_place_is_spent(self):
        gate = Gate(1, 99)
        first = arrive(gate, 0.0)
        late, fine = arrive(gate, 0.0, deadline=6.0), arrive(gate, 0.0)
        moved = gate.leave(first, 5.0)  # five seconds each: more than is left
        assert (moved.inside, moved.refused) == ([fine], [late])
        assert reason(late) is Reason.LATE

    def test_while_nothing_is_known_everybody_may_wait(self):
        gate = Gate(1, 99)
        arrive(gate)
        assert arrive(gate, deadline=0.001).state is State.WAITING

    def test_who_was_not_served_teaches_nothing(self):
        gate = Gate(1, 99)
        gate.leave(arrive(gate), 2.0)
        for _ in range(100):
            gate.leave(arrive(gate, 2.0), 2.0, served=False)
        assert gate.service == 2.0

    def test_with_room_nobody_is_late(self):
        gate = Gate(1, 99)
        gate.leave(arrive(gate), 60.0)
        assert arrive(gate, 60.0, deadline=61.0).state is State.INSIDE


def play(gate, *, load, places, seconds, patience, rng):
    """Poisson arrivals at `load` times what `places` can do, each a second of work on average;
    what part of that capacity was spent on answers that came in time.
    """
    events, number, good, served = [], count(), 0.0, Counter()

    def at(when, what, visitor=None):
        heapq.heappush(events, (when, next(number), what, visitor))

    at(rng.expovariate(load * places), "arrive")
    work = {}
    while events:
        now, _, what, visitor = heapq.heappop(events)
        if now > seconds:
            break
        moved = None
        if what == "arrive":
            at(now + rng.expovariate(load * places), "arrive")
            visitor = Visitor(
                key=rng.choice("ab"), priority=rng.choice([*Priority]), deadline=now + patience
            )
            work[visitor] = rng.uniform(0.5, 1.5)
            moved = gate.arrive(visitor, now)
        else:
            if now <= visitor.deadline:
                good += work[visitor]
                served[visitor.priority] += 1
            moved = gate.leave(visitor, now)
        for inside in moved.inside:
            at(now + work[inside], "leave", inside)
    return good / (places * seconds), served


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("load", [1.5, 3.0, 10.0])
def test_goodput_stays_above_nine_tenths_of_capacity_however_much_is_asked(seed, load):
    goodput, served = play(
        Gate(8, 256), load=load, places=8, seconds=100, patience=5.0, rng=Random(seed)
    )
    assert goodput > 0.9
    assert served[Priority.HIGH] > served[Priority.LOW]


def test_the_gate_is_what_keeps_it_there():
    """The same load before engines that queue all of it: few answers come in time."""
    endless = Gate(8, 10**9)
    endless._is_late = lambda *_: False
    goodput, _ = play(endless, load=3.0, places=8, seconds=100, patience=5.0, rng=Random(1))
    assert goodput < 0.5
