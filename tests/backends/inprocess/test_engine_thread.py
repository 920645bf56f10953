import asyncio
import itertools
import threading

import pytest

from backends.base import BackendError, Cause, RequestRefused, Stage
from backends.inprocess.engine import Engine
from backends.mlx import model
from tests.support.gated_engine import Gate, busy, finish, make_job, start
from tests.support.until import until


async def test_a_job_that_failed_as_it_was_inserted_is_not_inserted_further(started):
    engine, gate = started
    taken = []

    def insert(*args, **options):
        taken.append(args)
        raise RuntimeError("no room")

    gate.insert = insert
    job, answer = make_job(gate, rows=2)
    pieces = []
    job.sink = lambda piece: (pieces.append(piece), answer.sink(piece))
    engine.submit(job)
    with pytest.raises(BackendError, match="no room"):
        await asyncio.wait_for(answer.all(), 10)
    await until(lambda: busy(engine) == (0, 0))
    assert (len(taken), len(pieces)) == (1, 1)


async def test_a_failing_row_fails_alone(started):
    engine, gate = started

    def broken(tokens):
        raise RuntimeError("no such token")

    bad, bad_answer = make_job(gate, decode=broken)
    good, answer = make_job(gate, max_tokens=50)
    engine.submit(good)
    engine.submit(bad)
    with pytest.raises(BackendError, match="no such token") as caught:
        await bad_answer.all()
    assert (caught.value.stage, caught.value.cause) == (Stage.SENT, Cause.ENGINE)
    assert (await finish(answer))[-1].tokens == 50
    assert busy(engine) == (0, 0)


async def test_a_failing_logits_processor_fails_alone(started):
    engine, gate = started
    good, answer = make_job(gate, max_tokens=50)
    # Indices that are no integers: MLX refuses them when the processor runs.
    bad, bad_answer = make_job(gate, logit_bias=((1.5, 1.0),))
    engine.submit(good)
    engine.submit(bad)
    with pytest.raises(BackendError):
        await asyncio.wait_for(bad_answer.all(), 30)
    alone, alone_answer = make_job(gate, max_tokens=50)
    deltas = await finish(answer)
    engine.submit(alone)
    text = "".join(delta.text for delta in deltas)
    assert text == "".join(delta.text for delta in await finish(alone_answer))


async def test_a_failing_step_fails_the_batch_and_the_next_one_runs(started):
    engine, gate = started
    gate.failures.append(RuntimeError("out of memory"))
    jobs = [make_job(gate, rows=2), make_job(gate, rows=2, max_tokens=4)]
    for job, _ in jobs:
        engine.submit(job)
    with pytest.raises(BackendError, match="out of memory"):
        await jobs[0][1].all()
    assert {delta.tokens for delta in await finish(jobs[1][1]) if delta.finish} == {4}
    assert engine.health().ready
    assert busy(engine) == (0, 0)


async def test_when_the_thread_dies_everything_fails_and_health_says_so(started):
    engine, gate = started
    gate.failures.append(SystemExit("killed"))
    jobs = [make_job(gate, rows=2) for _ in range(2)]
    for job, _ in jobs:
        engine.submit(job)
    for _, answer in jobs:
        with pytest.raises(BackendError, match="thread died"):
            await asyncio.wait_for(answer.all(), 10)
    health = engine.health()
    assert not health.ready
    assert "killed" in health.reason
    with pytest.raises(BackendError) as caught:
        engine.submit(make_job(gate)[0])
    assert caught.value.stage is Stage.CONNECT


async def test_whoever_ended_is_answered_though_the_runtime_cannot_remove_it(started, caplog):
    engine, gate = started
    gate.broken["remove"] = RuntimeError("no memory to keep it")
    ends, answer = make_job(gate, max_tokens=3)
    goes_on, other = make_job(gate)
    gate.open.clear()
    engine.submit(ends)
    engine.submit(goes_on)
    await until(lambda: engine.load().running == 2)
    gate.open.set()
    assert (await finish(answer))[-1].tokens == 3
    with pytest.raises(BackendError, match="no memory to keep it"):
        await finish(other)
    again, answer = make_job(gate, max_tokens=4)
    engine.submit(again)
    assert (await finish(answer))[-1].tokens == 4
    assert engine.health().ready
    assert busy(engine) == (0, 0)
    assert "no memory to keep it" in caplog.text, "with its traceback"


async def test_a_cancelled_row_that_cannot_be_removed_does_not_end_the_thread(started):
    engine, gate = started
    job, answer = make_job(gate)
    engine.submit(job)
    await answer.next()
    gate.broken["remove"] = RuntimeError("boom")
    engine.cancel(job)
    again, answer = make_job(gate, max_tokens=4)
    engine.submit(again)
    assert (await finish(answer))[-1].tokens == 4
    assert engine.health().ready


async def test_a_runtime_that_cannot_begin_anew_is_down_and_says_so(started, caplog):
    engine, gate = started
    gate.failures.append(RuntimeError("out of memory"))
    gate.broken["reset"] = RuntimeError("still out of memory")
    running, waiting = make_job(gate, rows=2), make_job(gate)
    for job, _ in (running, waiting):
        engine.submit(job)
    with pytest.raises(BackendError, match="out of memory"):
        await finish(running[1])
    with pytest.raises(BackendError, match="thread died"):
        await finish(waiting[1])
    assert "still out of memory" in engine.health().reason
    assert "still out of memory" in await asyncio.wait_for(engine.until_dead(), 10)
    assert [record.levelname for record in caplog.records] == ["ERROR", "CRITICAL"]


async def test_a_job_in_hand_when_the_thread_dies_is_told(started):
    engine, gate = started
    gate.broken["insert"] = SystemExit("killed")
    job, answer = make_job(gate)
    engine.submit(job)
    with pytest.raises(BackendError, match="thread died"):
        await finish(answer)


async def test_other_work_under_way_when_the_thread_dies_is_told(started):
    engine, _ = started

    def panics(runtime):
        raise SystemExit("panic")

    with pytest.raises(BackendError, match="thread died"):
        await asyncio.wait_for(engine.run(panics), 10)


@pytest.mark.parametrize("where", ["step", "insert", "work"])
async def test_a_thread_that_hangs_is_left_behind_and_everybody_told(model_dir, where, caplog):
    now = [0.0]
    engine, starting = start(model_dir, clock=lambda: now[0], stop_timeout=0.05, stall_timeout=7)
    gate = await starting
    gate.open.clear()
    if where == "insert":
        gate.insert = lambda *args: gate.open.wait(10) and gate._runtime.insert(*args)
    jobs = [make_job(gate), make_job(gate)]
    if where == "work":
        works = [asyncio.create_task(engine.run(lambda runtime: gate.open.wait(10)))]
        await until(lambda: engine._state.doing is not None)
    else:
        for job, _ in jobs:
            engine.submit(job)
        works = []
    await until(lambda: engine._state.step_began is not None)
    now[0] = 8.0
    assert engine.health().reason == "no token for 8 s", "whatever it is that hangs"
    await engine.stop()
    told = works or [asyncio.create_task(finish(answer)) for _, answer in jobs]
    for waiting in told:
        with pytest.raises(BackendError, match="hangs"):
            await asyncio.wait_for(waiting, 10)
    assert "hangs" in engine.health().reason
    assert "hangs" in caplog.text
    with pytest.raises(BackendError, match="hangs"):
        engine.submit(make_job(gate)[0])
    # It comes back after all: then it ends, and nobody hears of it again.
    gate.open.set()
    await asyncio.to_thread(engine._over.wait, 10)
    assert engine._over.is_set()
    assert "thread died" not in engine.health().reason
    await engine.stop()


async def test_a_step_that_does_not_end_shows_in_health(model_dir):
    now = [0.0]
    engine = Engine(
        "MLX",
        lambda: Gate(model.load(str(model_dir), max_batch=2)),
        max_batch=2,
        max_waiting=0,
        stall_timeout=7,
        clock=lambda: now[0],
    )
    gate = await engine.start()
    gate.open.clear()
    job, _ = make_job(gate)
    engine.submit(job)
    await until(lambda: engine.load().running == 1)
    await until(lambda: engine._state.step_began is not None)
    assert engine.health().ready
    now[0] = 7.0
    assert engine.health().ready
    now[0] = 12.0
    assert engine.health().reason == "no token for 12 s"
    gate.open.set()
    await engine.stop()


async def test_a_failing_step_without_words_names_the_error(started):
    engine, gate = started
    gate.failures.append(MemoryError())
    job, answer = make_job(gate)
    engine.submit(job)
    with pytest.raises(BackendError, match="MemoryError"):
        await asyncio.wait_for(answer.all(), 10)


@pytest.mark.slow
async def test_other_work_runs_in_the_engines_thread_while_a_job_goes_on(started):
    engine, gate = started
    job, answer = make_job(gate, max_tokens=300)
    engine.submit(job)
    await answer.next()
    name = await engine.run(lambda runtime: (threading.current_thread().name, runtime.vocabulary))
    assert name == ("MLX-engine", gate.vocabulary)
    assert not job.over
    assert (await finish(answer))[-1].tokens == 300


async def test_between_the_pieces_of_other_work_everybody_gets_a_token(started):
    engine, gate = started
    job, answer = make_job(gate)
    engine.submit(job)
    await answer.next()
    seen = []

    def pieces(runtime):
        for _ in range(5):
            seen.append(gate.steps)
            yield
        return "done"

    assert await engine.run_pieces(pieces) == "done"
    assert [after - before for before, after in itertools.pairwise(seen)] == [1] * 4


async def test_other_work_that_is_cancelled_does_no_further_piece(started):
    engine, _ = started
    done = []

    def pieces(runtime):
        while True:
            done.append(1)
            yield

    task = asyncio.create_task(engine.run_pieces(pieces))
    await until(lambda: done)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await engine.run(lambda runtime: None)
    before = len(done)
    await engine.run(lambda runtime: None)
    assert len(done) == before
    assert busy(engine) == (0, 0)


async def test_an_error_in_other_work_is_its_callers_alone(started):
    engine, gate = started

    def broken(runtime):
        raise ValueError("no such layer")

    def refused(runtime):
        raise RequestRefused(400, "too long")

    job, answer = make_job(gate, max_tokens=50)
    engine.submit(job)
    with pytest.raises(BackendError, match="no such layer") as caught:
        await engine.run(broken)
    assert (caught.value.stage, caught.value.cause) == (Stage.SENT, Cause.ENGINE)
    with pytest.raises(RequestRefused, match="too long"):
        await engine.run(refused)
    assert (await finish(answer))[-1].tokens == 50
