import asyncio
import gc
import os
import sys
import threading
import weakref

import mlx.core as mx
import msgspec
import pytest

from backends.base import BackendError
from backends.inprocess.engine import Engine
from backends.inprocess.job import Job
from backends.inprocess.threads import OwnerThreads
from tests.support.gated_engine import busy, finish, make_job, start
from tests.support.until import until


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


@pytest.mark.slow
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


async def test_cancel_during_prefill(started):
    engine, gate = started
    job, answer = make_job(gate, prompt=[5] * 4000)
    engine.submit(job)
    await until(lambda: gate.steps >= 1)
    engine.cancel(job)
    await until(lambda: busy(engine) == (0, 0))
    assert gate.steps < 60
    assert answer.tokens == 0


async def test_an_engine_that_was_stopped_has_not_died(started):
    engine, _ = started
    dead = asyncio.create_task(engine.until_dead())
    await engine.stop()
    await asyncio.sleep(0)
    assert not dead.done()
    dead.cancel()


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
