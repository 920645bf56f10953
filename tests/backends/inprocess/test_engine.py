import asyncio
import gc
import itertools
import os
import sys
import threading
import time
import weakref
from functools import partial

import mlx.core as mx
import msgspec
import pytest

from backends.base import BackendError, Cause, RequestRefused, Stage
from backends.inprocess.answer import Answer
from backends.inprocess.engine import Engine
from backends.inprocess.job import Job, Row
from backends.inprocess.params import Sampling
from backends.inprocess.runtime import SequenceSpec
from backends.inprocess.text import SequenceText
from backends.inprocess.threads import OwnerThreads
from backends.mlx import model

LONG = 3000


class Gate:
    """The real runtime, whose steps can be held up or made to fail."""

    def __init__(self, runtime):
        self._runtime = runtime
        self.open = threading.Event()
        self.open.set()
        self.failures = []
        self.broken = {}
        """What another call than `step` raises, by its name; each once."""
        self.sizes = []
        """How many rows got a token, for each step."""

    @property
    def steps(self):
        return len(self.sizes)

    def __getattr__(self, name):
        return getattr(self._runtime, name)

    def insert(self, *args):
        self._raise("insert")
        return self._runtime.insert(*args)

    def remove(self, uids):
        self._raise("remove")
        self._runtime.remove(uids)

    def reset(self):
        self._raise("reset")
        self._runtime.reset()

    def _raise(self, name):
        if (error := self.broken.pop(name, None)) is not None:
            raise error

    def step(self):
        assert self.open.wait(10)
        if self.failures:
            raise self.failures.pop()
        tokens = self._runtime.step()
        self.sizes.append(len(tokens))
        return tokens


@pytest.fixture
async def started(model_dir):
    """An engine for two sequences and two that wait, and the gate in front of its steps."""
    engine = Engine(
        "MLX", lambda: Gate(model.load(str(model_dir), max_batch=2)), max_batch=2, max_waiting=2
    )
    gate = await engine.start()
    yield engine, gate
    gate.open.set()
    await engine.stop()


def make_job(gate, *, rows=1, max_tokens=LONG, stream=True, decode=None, prompt=(1, 2, 3), **more):
    answer = Answer(rows)
    job = Job(answer.sink, stream=stream)
    for index in range(rows):
        row = Row(
            job,
            SequenceSpec(
                prompt=list(prompt),
                max_tokens=max_tokens,
                sampling=Sampling(temperature=0, **more),
                ignore_eos=True,
            ),
            SequenceText(index, decode or gate.prompts.decode),
        )
        job.rows.append(row)
    return job, answer


async def until(condition, *, seconds=10.0):
    for _ in range(int(seconds / 0.005)):
        if condition():
            return
        await asyncio.sleep(0.005)
    raise AssertionError("it did not happen")


def busy(engine):
    load = engine.load()
    return load.running, load.waiting


async def finish(answer):
    return await asyncio.wait_for(answer.all(), 30)


async def test_a_job_runs_to_its_end(started):
    engine, gate = started
    job, answer = make_job(gate, max_tokens=5)
    engine.submit(job)
    deltas = await finish(answer)
    assert deltas[-1].tokens == 5
    assert busy(engine) == (0, 0)


async def test_what_is_no_stream_comes_at_once(started):
    engine, gate = started
    arrivals = []
    job, answer = make_job(gate, max_tokens=20, stream=False)
    job.sink = lambda piece: (arrivals.append(piece), answer.sink(piece))
    engine.submit(job)
    assert (await finish(answer))[-1].tokens == 20
    assert len(arrivals) == 1


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


async def test_cancel_takes_rows_out_of_the_batch_before_the_next_step(started):
    engine, gate = started
    gone, _ = make_job(gate)
    stays, answer = make_job(gate, max_tokens=200)
    engine.submit(gone)
    engine.submit(stays)
    await until(lambda: 2 in gate.sizes)
    engine.cancel(gone)
    engine.cancel(gone)
    in_progress = gate.steps
    assert (await finish(answer))[-1].tokens == 200
    assert set(gate.sizes[in_progress + 1 :]) == {1}


class Tokens(list):
    """A prompt that can be watched, as what it brings along: others may wait for that memory."""


@pytest.mark.parametrize("way", ["finished", "cancelled", "refused"])
async def test_what_a_request_brought_along_is_gone_when_it_is_over(started, way):
    engine, gate = started
    job, answer = make_job(gate, rows=2, max_tokens=4 if way == "finished" else 200)
    tokens = Tokens(job.rows[0].spec.prompt)
    for row in job.rows:
        row.spec = msgspec.structs.replace(row.spec, prompt=tokens)
    kept = weakref.ref(tokens)
    del tokens, row
    gc.collect()
    gc.disable()
    try:
        if way == "refused":
            await engine.stop()
            with pytest.raises(BackendError):
                engine.submit(job)
        else:
            engine.submit(job)
        if way == "cancelled":
            await until(lambda: busy(engine)[0] == 2)
            engine.cancel(job)
        if way == "finished":
            await finish(answer)
        await until(lambda: kept() is None)
    finally:
        gc.enable()


async def test_a_cancel_while_a_row_ends_is_not_undone(started):
    engine, gate = started
    job, _ = make_job(gate, rows=2)
    add = job.rows[0].text.add

    def cancelled_meanwhile(token, **how):
        # The event loop's thread comes in just where the engine's has the last token in hand.
        other = threading.Thread(target=engine.cancel, args=(job,))
        other.start()
        other.join(10)
        assert not other.is_alive()
        return add(token, **how)

    job.rows[0].spec = msgspec.structs.replace(job.rows[0].spec, max_tokens=1)
    job.rows[0].text.add = cancelled_meanwhile
    engine.submit(job)
    await until(lambda: busy(engine) == (0, 0))
    assert job.over
    assert gate.steps < 20


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


async def test_cancel_during_prefill(started):
    engine, gate = started
    job, answer = make_job(gate, prompt=[5] * 4000)
    engine.submit(job)
    await until(lambda: gate.steps >= 1)
    engine.cancel(job)
    await until(lambda: busy(engine) == (0, 0))
    assert gate.steps < 60
    assert answer.tokens == 0


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


async def test_an_engine_that_was_stopped_has_not_died(started):
    engine, _ = started
    dead = asyncio.create_task(engine.until_dead())
    await engine.stop()
    await asyncio.sleep(0)
    assert not dead.done()
    dead.cancel()


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


async def test_a_model_that_cannot_be_loaded():
    def load():
        raise ValueError("boom")

    engine = Engine("MLX", load, max_batch=1, max_waiting=0)
    assert engine.health().reason == "not started"
    with pytest.raises(BackendError, match="boom"):
        await engine.start()
    assert not engine.health().ready
    await engine.stop()


async def test_an_error_without_words_is_no_good_health():
    def load():
        raise MemoryError

    engine = Engine("MLX", load, max_batch=1, max_waiting=0)
    with pytest.raises(BackendError, match="MemoryError"):
        await engine.start()
    assert engine.health().reason == "MemoryError()"
    with pytest.raises(BackendError, match="MemoryError"):
        engine.submit(Job(lambda piece: None, stream=False))
    await engine.stop()


async def test_a_failing_step_without_words_names_the_error(started):
    engine, gate = started
    gate.failures.append(MemoryError())
    job, answer = make_job(gate)
    engine.submit(job)
    with pytest.raises(BackendError, match="MemoryError"):
        await asyncio.wait_for(answer.all(), 10)


async def test_stop_cuts_what_is_open_and_can_be_called_twice(started):
    engine, gate = started
    job, answer = make_job(gate)
    engine.submit(job)
    await answer.next()
    await engine.stop()
    with pytest.raises(BackendError, match="stopped"):
        await answer.all()
    assert not engine.health().ready
    await engine.stop()
    assert "MLX-engine" not in [thread.name for thread in threading.enumerate()]


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


def start(model_dir, *, clock=time.monotonic, **options):
    """An engine for one sequence, with what waits in front of it."""
    load = {key: options.pop(key) for key in ("context", "kv_cache") if key in options}
    width = options.setdefault("max_batch", 1)
    engine = Engine(
        "MLX",
        lambda: Gate(model.load(str(model_dir), max_batch=width, **load)),
        **{"max_waiting": 8, "clock": clock, **options},
    )
    return engine, engine.start()


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


def native_threads():
    return len(os.listdir("/proc/self/task"))


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="threads are counted in /proc")
async def test_starting_and_stopping_many_times_leaves_neither_threads_nor_memory(model_dir):
    threads = OwnerThreads()

    async def once():
        engine, starting = start(model_dir, threads=threads)
        gate = await starting
        job, answer = make_job(gate, max_tokens=3)
        engine.submit(job)
        await finish(answer)
        await engine.stop()

    for _ in range(3):
        await once()
    gc.collect()
    before, memory = native_threads(), mx.get_active_memory()
    for _ in range(20):
        await once()
    gc.collect()
    assert native_threads() <= before
    assert mx.get_active_memory() <= memory
    assert mx.get_cache_memory() < 1 << 20
