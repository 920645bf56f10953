import asyncio
from functools import partial

import pytest

from backends.base import BackendError, RequestRefused
from tests.support.gated_engine import busy, finish, make_job, start
from tests.support.until import until


async def test_beyond_the_batch_jobs_wait_and_beyond_the_queue_they_are_refused(started):
    engine, gate = started
    gate.open.clear()
    jobs = [make_job(gate, max_tokens=3) for _ in range(4)]
    for job, _ in jobs:
        engine.submit(job)
    await until(lambda: busy(engine) == (2, 2))
    with pytest.raises(RequestRefused) as caught:
        engine.submit(make_job(gate)[0])
    assert (caught.value.status, caught.value.code) == (429, "engine_overloaded")
    gate.open.set()
    for _, answer in jobs:
        assert (await finish(answer))[-1].tokens == 3
    assert busy(engine) == (0, 0)


async def test_cancel_takes_a_waiting_job_out_of_the_queue_at_once(started):
    engine, gate = started
    gate.open.clear()
    running, answer = make_job(gate, rows=2, max_tokens=3)
    waiting, _ = make_job(gate, rows=2)
    engine.submit(running)
    engine.submit(waiting)
    await until(lambda: busy(engine) == (2, 2))
    engine.cancel(waiting)
    assert engine.load().waiting == 0
    gate.open.set()
    await finish(answer)


async def test_a_freed_place_goes_to_the_one_that_waited_longest(started):
    engine, gate = started
    first, _ = make_job(gate, rows=2)
    engine.submit(first)
    order = []
    jobs = [make_job(gate, max_tokens=4) for _ in range(2)]
    for number, (job, answer) in enumerate(jobs):
        job.sink = partial(lambda n, a, piece: (order.append(n), a.sink(piece)), number, answer)
        engine.submit(job)
    engine.cancel(first)
    for _, answer in jobs:
        await finish(answer)
    assert order[0] == 0


async def test_other_work_counts_for_the_bound_and_leaves_the_queue_when_cancelled(started):
    engine, gate = started
    gate.open.clear()
    engine.submit(make_job(gate, max_tokens=3)[0])
    await until(lambda: engine._state.step_began is not None)
    done = []
    tasks = [asyncio.create_task(engine.run(lambda runtime: done.append(1))) for _ in range(3)]
    await asyncio.sleep(0)
    with pytest.raises(RequestRefused) as caught:
        await engine.run(lambda runtime: None)
    assert caught.value.status == 429
    tasks[1].cancel()
    await asyncio.wait(tasks[1:2])  # before the engine's thread can come to its work
    gate.open.set()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert (len(done), tasks[1].cancelled()) == (2, True)


async def test_other_work_that_waits_when_the_engine_stops_is_told(started):
    engine, gate = started
    gate.open.clear()
    engine.submit(make_job(gate)[0])
    await until(lambda: engine._state.step_began is not None)
    task = asyncio.create_task(engine.run(lambda runtime: None))
    await asyncio.sleep(0)
    gate.failures.append(SystemExit("killed"))
    gate.open.set()
    with pytest.raises(BackendError, match="thread died"):
        await task


async def test_the_more_urgent_one_goes_first(model_dir):
    engine, starting = start(model_dir)
    gate = await starting
    gate.open.clear()
    engine.submit(make_job(gate, max_tokens=2)[0])
    await until(lambda: engine.load().running == 1)
    order, answers = [], []
    for name, priority in (("late", 5), ("normal", 0), ("urgent", -3)):
        job, answer = make_job(gate, max_tokens=2)
        job.priority = priority
        job.sink = partial(lambda n, a, piece: (order.append(n), a.sink(piece)), name, answer)
        engine.submit(job)
        answers.append(answer)
    gate.open.set()
    for answer in answers:
        await finish(answer)
    assert list(dict.fromkeys(order)) == ["urgent", "normal", "late"]
    await engine.stop()


async def test_who_waits_for_too_long_gets_429_and_others_go_on(model_dir):
    now = [0.0]
    engine, starting = start(model_dir, clock=lambda: now[0], queue_timeout=10)
    gate = await starting
    gate.open.clear()
    running, answer = make_job(gate, max_tokens=5)
    waiting, waits = make_job(gate)
    engine.submit(running)
    await until(lambda: engine.load().running == 1)
    engine.submit(waiting)
    now[0] = 9.0
    assert engine.load().longest_wait == 9
    now[0] = 30.0
    gate.open.set()
    with pytest.raises(RequestRefused, match="no place became free in 10 s") as caught:
        await asyncio.wait_for(waits.all(), 10)
    assert (caught.value.status, caught.value.code) == (429, "engine_overloaded")
    assert caught.value.retry_after == 6, "a fifth of the newest wait"
    assert (await finish(answer))[-1].tokens == 5
    await engine.stop()


async def test_a_full_engine_says_when_to_come_back(started):
    engine, gate = started
    gate.open.clear()
    for _ in range(4):
        engine.submit(make_job(gate)[0])
    with pytest.raises(RequestRefused) as caught:
        engine.submit(make_job(gate)[0])
    assert caught.value.retry_after == 1


@pytest.mark.slow
async def test_the_kv_cache_never_passes_the_plan_and_the_big_one_is_not_passed(model_dir):
    slack, per_token = 256 + 64, 2048
    # Room for two sequences of 400 tokens side by side, or for one of up to 1120.
    plan = 2 * (400 + slack)
    engine, starting = start(model_dir, max_batch=4, kv_cache=plan * per_token)
    gate = await starting
    assert gate.context == plan - slack
    most = []
    step = gate.step
    gate.step = lambda: (most.append(engine.load().kv_tokens), step())[1]
    gate.open.clear()
    order = []

    def submit(name, max_tokens):
        job, answer = make_job(gate, max_tokens=max_tokens)
        job.sink = partial(lambda n, a, piece: (order.append(n), a.sink(piece)), name, answer)
        engine.submit(job)
        return answer

    answers = [submit("first", 397), submit("second", 97)]
    await until(lambda: engine.load().running == 2)
    answers += [submit("big", 900), submit("small", 5)]
    gate.open.set()
    for answer in answers:
        await finish(answer)
    assert max(most) == plan == engine.load().kv_planned
    begun = list(dict.fromkeys(order))
    assert begun.index("big") < begun.index("small")
    assert engine.load().kv_tokens == 0
    assert engine.load().waits == 4
    await engine.stop()
