import asyncio
import threading

import pytest

from backends.base import RequestRefused
from backends.inprocess.compiler import KEPT, KEPT_BYTES, Compiler
from backends.inprocess.constraint import uncompilable
from tests.support.constraints import one_value
from tests.support.until import until


def constraint(number=0):
    return one_value(f'{{"const":{number}}}', "response_format")


class Slow:
    """Compiles when it is let."""

    def __init__(self):
        self.gate = threading.Event()
        self.asked = []

    def __call__(self, wanted):
        self.asked.append(wanted)
        assert self.gate.wait(10)
        return len(self.asked)


@pytest.fixture
def slow():
    compile_ = Slow()
    yield compile_
    compile_.gate.set()


async def test_the_same_is_compiled_once():
    asked = []
    compiler = Compiler(lambda wanted: asked.append(wanted) or object())
    first, again = await asyncio.gather(*(compiler.grammar(constraint()) for _ in range(2)))
    assert first is again is await compiler.grammar(constraint())
    assert first is not await compiler.grammar(constraint(1))
    assert len(asked) == 2


async def test_a_failure_is_remembered_too():
    asked = []

    def compile_(wanted):
        asked.append(wanted)
        raise uncompilable("response_format", "bad")

    compiler = Compiler(compile_)
    for _ in range(3):
        with pytest.raises(RequestRefused, match="bad"):
            await compiler.grammar(constraint())
    assert len(asked) == 1


async def test_what_takes_too_long_is_refused_and_others_get_their_turn(slow):
    compiler = Compiler(slow, timeout=0.05)
    with pytest.raises(RequestRefused, match="longer than") as caught:
        await compiler.grammar(constraint())
    assert caught.value.param == "response_format"
    slow.gate.set()
    assert await Compiler(slow).grammar(constraint(1))


async def test_the_wait_for_others_is_not_the_fault_of_a_schema(slow):
    compiler = Compiler(slow, timeout=60, queue_timeout=0.05)
    first = [asyncio.create_task(compiler.grammar(constraint(at))) for at in range(2)]
    await until(lambda: len(slow.asked) == 2)
    with pytest.raises(RequestRefused, match="no schema could be compiled within") as caught:
        await compiler.grammar(constraint(2))
    assert (caught.value.status, caught.value.code) == (429, "engine_overloaded")
    assert caught.value.retry_after
    slow.gate.set()
    await asyncio.gather(*first)
    assert await compiler.grammar(constraint(2))


async def test_its_time_begins_with_the_work(slow):
    compiler = Compiler(slow, timeout=0.05, queue_timeout=60)
    first = [asyncio.create_task(compiler.grammar(constraint(at))) for at in range(2)]
    waits = asyncio.create_task(compiler.grammar(constraint(2)))
    for task in first:
        with pytest.raises(RequestRefused, match="longer than"):
            await task
    assert not waits.done(), "however long that was"
    slow.gate.set()
    assert await waits


async def test_who_comes_to_one_that_takes_too_long_does_not_wait_anew(slow):
    compiler = Compiler(slow, timeout=0.05)
    for _ in range(2):
        with pytest.raises(RequestRefused, match="longer than"):
            await compiler.grammar(constraint())
    assert len(slow.asked) == 1


class Panic(BaseException):
    """As Rust's panics come to Python."""


async def test_a_panic_costs_no_thread(caplog):
    def compile_(wanted):
        if wanted == constraint():
            raise Panic("index out of bounds")
        return "grammar"

    compiler = Compiler(compile_)
    for _ in range(3):
        with pytest.raises(RequestRefused, match="the compiler fails on it") as caught:
            await compiler.grammar(constraint())
        compiler._known.clear()
    assert caught.value.status == 400
    assert "index out of bounds" in caplog.text
    assert await asyncio.wait_for(compiler.grammar(constraint(1)), 10) == "grammar"


async def test_without_a_thread_it_is_refused_and_tried_again(monkeypatch):
    def start(thread):
        raise RuntimeError("can't start new thread")

    compiler = Compiler(lambda wanted: "grammar")
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        with pytest.raises(RequestRefused, match="new thread") as caught:
            await compiler.grammar(constraint())
    assert caught.value.status == 429
    assert await asyncio.wait_for(compiler.grammar(constraint()), 10) == "grammar"


async def test_a_client_that_leaves_spoils_nothing_for_the_next(slow):
    compiler = Compiler(slow)
    leaving = asyncio.create_task(compiler.grammar(constraint()))
    await until(lambda: slow.asked)
    leaving.cancel()
    slow.gate.set()
    assert await compiler.grammar(constraint()) == 1


async def test_no_more_wait_than_there_is_room_for(slow):
    compiler = Compiler(slow)
    waiting = [asyncio.create_task(compiler.grammar(constraint(at))) for at in range(40)]
    await until(lambda: sum(task.done() for task in waiting) == 6)
    with pytest.raises(RequestRefused) as caught:
        await compiler.grammar(constraint(99))
    assert caught.value.status == 429
    assert len(slow.asked) <= 2
    slow.gate.set()
    results = await asyncio.gather(*waiting, return_exceptions=True)
    assert sum(not isinstance(result, Exception) for result in results) == 34


async def test_what_is_kept_is_bounded():
    asked = []
    compiler = Compiler(asked.append)
    for at in range(KEPT + 1):
        await compiler.grammar(constraint(at))
    await compiler.grammar(constraint(KEPT))
    await compiler.grammar(constraint(0))
    assert len(asked) == KEPT + 2


async def test_it_is_bounded_by_the_size_of_schemas_too():
    asked = []
    compiler = Compiler(asked.append)
    large = KEPT_BYTES // 3
    of_size = [one_value('"' + str(at) * (large - 2) + '"', "x") for at in range(5)]
    for one in of_size:
        await compiler.grammar(one)
    for one in of_size[2:]:
        await compiler.grammar(one)
    assert len(asked) == 5
    await compiler.grammar(of_size[0])
    assert len(asked) == 6


async def test_what_is_asked_for_now_is_kept_however_large():
    asked = []
    compiler = Compiler(asked.append)
    huge = one_value('"' + "x" * KEPT_BYTES + '"', "x")
    assert await compiler.grammar(huge) is None
    assert await compiler.grammar(constraint()) is None
    await compiler.grammar(constraint())
    assert len(asked) == 2
