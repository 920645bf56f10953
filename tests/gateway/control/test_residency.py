from __future__ import annotations

import asyncio

import pytest

from backends.base import BackendError
from gateway.control.residency import LONGEST_LINE, MemoryResidency, choose_victims


class Engine:
    """A tenant that does what it is told at once."""

    def __init__(self, name: str, memory: int, last_used: float = 0, *, there: bool = True) -> None:
        self.id = name
        self.memory = memory
        self.last_used = last_used
        self.resident = there
        self.busy = False
        self.starting = False
        self.leaving = False

    def wake(self) -> None:
        self.resident = True

    def ask(self) -> None:
        """What a request does, which finds it ready or is sent elsewhere."""
        if not self.leaving:
            self.busy = True

    def go_to_sleep(self) -> None:
        assert not self.busy
        self.leaving = True

    async def until_asleep(self) -> None:
        await asyncio.sleep(0)
        assert not self.busy, "an engine with a request in flight was stopped"
        self.resident = self.leaving = False

    def __repr__(self) -> str:
        return self.id


def home(limit: int | None, *tenants: Engine, patience: float = 60) -> MemoryResidency:
    residency = MemoryResidency(limit, patience)
    for tenant in tenants:
        residency.join(tenant)
    return residency


def test_nobody_goes_where_there_is_room():
    assert choose_victims(5, [Engine("a", 5)], 10) == []


def test_the_one_that_was_not_used_the_longest_goes():
    old, new = Engine("old", 5, 1), Engine("new", 5, 2)
    assert choose_victims(5, [new, old], 10) == [old]


def test_one_that_is_being_started_never_goes():
    old, new = Engine("old", 5, 1), Engine("new", 5, 2)
    old.starting = True
    assert choose_victims(5, [old, new], 10) == [new]


def test_a_busy_one_never_goes():
    old, new = Engine("old", 5, 1), Engine("new", 5, 2)
    old.busy = True
    assert choose_victims(5, [new, old], 10) == [new]
    assert choose_victims(6, [new, old], 10) is None


def test_as_many_go_as_it_takes_and_no_more():
    small, large, other = Engine("small", 1, 1), Engine("large", 8, 2), Engine("other", 1, 3)
    assert choose_victims(8, [small, large, other], 10) == [large]
    assert choose_victims(9, [small, large, other], 10) == [small, large]
    assert choose_victims(11, [small, large, other], 10) is None


async def test_without_a_limit_all_come_in():
    new = Engine("new", 10**12, there=False)
    residency = home(None, Engine("a", 10**12), new)
    assert residency.admit_at_once(new)
    new.resident = False
    await residency.admit(new)
    assert new.resident


async def test_at_the_start_nobody_is_sent_away():
    first, second = Engine("first", 6, there=False), Engine("second", 6, there=False)
    residency = home(10, first, second)
    assert residency.admit_at_once(first)
    assert not residency.admit_at_once(second)
    assert (first.resident, second.resident) == (True, False)


async def test_room_is_made():
    old, new = Engine("old", 6), Engine("new", 6, there=False)
    await home(10, old, new).admit(new)
    assert (old.resident, new.resident) == (False, True)


async def test_a_busy_engine_is_waited_for():
    old, new = Engine("old", 6), Engine("new", 6, there=False)
    old.busy = True
    residency = home(10, old, new)
    waiting = asyncio.create_task(residency.admit(new))
    await asyncio.sleep(0.01)
    assert not waiting.done()
    assert old.resident
    old.busy = False
    residency.changed()
    await waiting
    assert (old.resident, new.resident) == (False, True)


async def test_a_request_that_comes_between_choosing_and_stopping_meets_no_engine_that_stops():
    old, older = Engine("old", 6), Engine("older", 6)
    new = Engine("new", 6, there=False)
    residency = home(17, old, older, new)
    older.last_used = -1
    waiting = asyncio.create_task(residency.admit(new))
    # It is run right after the line has been looked at, and before whatever that has begun.
    asyncio.get_running_loop().call_soon(older.ask)
    await waiting
    assert not older.busy
    assert (old.resident, older.resident, new.resident) == (True, False, True)


async def test_the_wait_ends_with_the_reason_and_the_numbers():
    old, new = Engine("old", 6 << 30), Engine("new", 6 << 30, there=False)
    old.busy = True
    residency = home(10 << 30, old, new, patience=0.01)
    with pytest.raises(BackendError) as caught:
        await residency.admit(new)
    assert caught.value.message == (
        "no room in memory for new (6.0 GiB) within 0.01 s: old (6.0 GiB, busy) are there, and "
        "`memory_limit` is 10.0 GiB"
    )
    old.busy = False
    await residency.admit(new)


async def test_what_can_never_fit_is_told_at_once():
    new = Engine("new", 11 << 30, there=False)
    with pytest.raises(BackendError, match=r"new takes 11.0 GiB, and `memory_limit` is 10.0 GiB"):
        await home(10 << 30, new).admit(new)


async def test_a_large_one_is_not_passed_over_by_small_ones():
    busy = Engine("busy", 6)
    busy.busy = True
    large, small = Engine("large", 8, there=False), Engine("small", 2, there=False)
    residency = home(10, busy, large, small)
    first = asyncio.create_task(residency.admit(large))
    await asyncio.sleep(0)
    second = asyncio.create_task(residency.admit(small))
    await asyncio.sleep(0.01)
    assert not residency.admit_at_once(small)
    assert not second.done()
    busy.busy = False
    residency.changed()
    await asyncio.gather(first, second)
    assert (busy.resident, large.resident, small.resident) == (False, True, True)


async def test_whoever_gives_up_holds_nobody_up():
    busy = Engine("busy", 6)
    busy.busy = True
    large, small = Engine("large", 8, there=False), Engine("small", 2, there=False)
    residency = home(10, busy, large, small)
    first = asyncio.create_task(residency.admit(large))
    await asyncio.sleep(0)
    second = asyncio.create_task(residency.admit(small))
    await asyncio.sleep(0)
    first.cancel()
    await second
    assert small.resident
    with pytest.raises(asyncio.CancelledError):
        await first


async def test_the_line_is_bounded():
    busy = Engine("busy", 10)
    busy.busy = True
    engines = [Engine(f"e{number}", 1, there=False) for number in range(LONGEST_LINE + 1)]
    residency = home(10, busy, *engines)
    waiting = [asyncio.create_task(residency.admit(one)) for one in engines[:-1]]
    await asyncio.sleep(0)
    with pytest.raises(BackendError, match="wait for room in memory already"):
        await residency.admit(engines[-1])
    for task in waiting:
        task.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)


async def test_a_higher_limit_lets_in_who_waits_and_one_who_left_counts_no_more():
    busy = Engine("busy", 6)
    busy.busy = True
    new, another = Engine("new", 6, there=False), Engine("another", 6, there=False)
    residency = home(10, busy, new, another)
    waiting = asyncio.create_task(residency.admit(new))
    await asyncio.sleep(0)
    residency.set_limit(12)
    await waiting
    new.busy = True
    waiting = asyncio.create_task(residency.admit(another))
    await asyncio.sleep(0)
    residency.leave(busy)
    await waiting
