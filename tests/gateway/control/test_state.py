from __future__ import annotations

import asyncio

import pytest

from gateway.control.state import Snapshot, State


def snapshot():
    return Snapshot(config=None, table=None, replicas=())


async def blocked(task):
    """Whether `task` is still waiting after everybody had a turn."""
    for _ in range(5):
        await asyncio.sleep(0)
    return not task.done()


async def test_a_snapshot_without_users_is_unused_at_once():
    state = State(snapshot())
    before = state.swap(snapshot())
    await asyncio.wait_for(state.unused(before), 1)


async def test_it_is_in_use_until_the_last_one_leaves():
    state = State(snapshot())
    seen = [state.enter() for _ in range(3)]
    task = asyncio.create_task(state.unused(state.swap(snapshot())))
    for one in seen[:-1]:
        state.leave(one)
        assert await blocked(task)
    state.leave(seen[-1])
    await asyncio.wait_for(task, 1)


async def test_users_of_the_new_one_do_not_keep_the_old_one():
    state = State(snapshot())
    before = state.swap(snapshot())
    state.enter()
    await asyncio.wait_for(state.unused(before), 1)


async def test_what_an_earlier_snapshot_uses_too_is_kept_for_it():
    state = State(snapshot())
    earliest = state.enter()
    first = asyncio.create_task(state.unused(state.swap(snapshot())))
    second = asyncio.create_task(state.unused(state.swap(snapshot())))
    assert await blocked(second)
    state.leave(earliest)
    await asyncio.wait_for(asyncio.gather(first, second), 1)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
async def test_several_may_wait_at_once(order):
    state = State(snapshot())
    users, tasks = [], []
    for _ in range(2):
        users.append(state.enter())
        tasks.append(asyncio.create_task(state.unused(state.swap(snapshot()))))
    assert await blocked(tasks[0])
    for one in order:
        state.leave(users[one])
    await asyncio.wait_for(asyncio.gather(*tasks), 1)
