"""One cell of the table, played: bystander, fault, the request after it, and the cleaning up."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator
from pathlib import Path

import anthropic
import openai

from tests.faults.clients import Dialect, Heard
from tests.faults.houses import SOON, TOTAL, House, Kind, house, no_tasks_left, settled
from tests.faults.outcomes import Broken, Outcome, Own, Saved, Told, WentOn
from tests.faults.speech import SAID
from tests.faults.table.row import Fault

LAST_WORDS = (b"data: [DONE]", b"message_stop", b"response.completed")
"""What a client takes for the end of a whole answer, in any dialect."""
ATTEMPTS, FAILOVERS = 3, 3
"""How often one request may be tried, and then gone on with: the latter is the default."""


async def check(
    directory: Path, dialect: Dialect, fault: Fault, kind: Kind, *, streamed: bool
) -> None:
    """Play one cell. Raises `AssertionError` where anything is not as the table has it."""
    outcome: Outcome = getattr(fault.cells, kind)
    async with house(kind, directory, dialect, fault, streamed=streamed) as running:
        async with _bystander(running, dialect):
            if fault.refuses:
                running.bad.refuse()
            for heard in await _asked(running, dialect, fault, streamed=streamed):
                _check_client(heard, outcome, fault, running, kind)
            _check_engine(running, outcome, fault)
            if not fault.refuses:
                await _next_is_answered(running, dialect, fault, kind)
        await _nothing_is_left(running)
    await _all_closed(running)


async def check_everywhere(
    directory: Path, dialect: Dialect, fault: Fault, *, streamed: bool
) -> None:
    """Play the fault on both of two replicas: whatever comes of it is right, or an honest error."""
    async with house("both", directory, dialect, fault, streamed=streamed) as running:
        engines = (running.bad, *running.others)
        async with _bystander(running, dialect):
            if fault.refuses:
                for engine in engines:
                    engine.refuse()
            for heard in await _asked(running, dialect, fault, streamed=streamed):
                if heard.error is None:
                    _check_whole(heard, fault.said)
                else:
                    assert not heard.complete
                    assert SAID.startswith(heard.text)
                    assert not (heard.text and any(one in heard.raw for one in LAST_WORDS))
            asked = sum(len(engine.seen) for engine in engines) - 1
            assert asked <= fault.turns * (ATTEMPTS + FAILOVERS)
        await _nothing_is_left(running)
    await _all_closed(running)


@contextlib.asynccontextmanager
async def _bystander(running: House, dialect: Dialect) -> AsyncIterator[None]:
    """Somebody who is in the middle of a stream all the time, and gets the whole of it."""
    heard = Heard()
    other = asyncio.create_task(dialect.ask(running.gateway, "aside", True, heard=heard))
    await running.bad.asked(1)
    try:
        yield
    finally:
        running.bad.release()
        await other
    assert (heard.text, heard.complete, heard.error) == (SAID, True, None)


async def _asked(running: House, dialect: Dialect, fault: Fault, *, streamed: bool) -> list[Heard]:
    """What came of each request."""
    heard = []
    for _ in range(fault.turns):
        async with asyncio.timeout(TOTAL + SOON):
            heard.append(await dialect.ask(running.gateway, "tale", streamed, fault.padding))
    return heard


async def _nothing_is_left(running: House) -> None:
    for engine in (running.bad, *running.others):
        engine.release()
    await _all_over(running)
    await settled(running.gateway, running.bad, *running.others)
    await no_tasks_left(running.before)


async def _all_closed(running: House) -> None:
    """The gateway, which has ended, has left no connection open."""
    for engine in (running.bad, *running.others):
        async with asyncio.timeout(SOON):
            while engine.connections:
                await asyncio.sleep(0.01)


def _check_client(heard: Heard, outcome: Outcome, fault: Fault, running: House, kind: Kind) -> None:
    match outcome:
        case WentOn():
            _check_whole(heard, SAID)
            _check_origin(heard, "tale", running.bad.id)  # the headers are of the beginning
            assert heard.raw.count(b'"delta":{"role"') <= 1
        case Own():
            _check_whole(heard, fault.said)
            _check_origin(heard, "tale", running.bad.id)
        case Saved():
            _check_whole(heard, SAID)
            if fault.turns == 1:
                model = "plan-b" if kind == "fallback" else "tale"
                _check_origin(heard, model, running.others[0].id)
        case Told():
            _check_told(heard, outcome)
        case Broken():
            _check_broken(heard, outcome, fault, running)
    _check_tries(heard, outcome, fault)


def _check_whole(heard: Heard, said: str) -> None:
    assert (heard.status, heard.error, heard.complete) == (200, None, True)
    assert heard.text == said


def _check_origin(heard: Heard, model: str, replica: str) -> None:
    assert heard.model == model
    assert heard.headers["x-gateway-replica"].partition("@")[2] == replica


def _check_told(heard: Heard, outcome: Told) -> None:
    assert isinstance(heard.error, openai.APIStatusError | anthropic.APIStatusError)
    assert (heard.status, heard.text) == (outcome.status, "")
    assert heard.error.message
    body = heard.raw.decode()
    assert "Traceback" not in body
    assert "sk-engine" not in body
    assert "location" not in heard.headers
    assert ("retry-after" in heard.headers) == (outcome.status in (429, 503))
    if outcome.retry_after is not None:
        assert heard.headers["retry-after"] == outcome.retry_after


def _check_broken(heard: Heard, outcome: Broken, fault: Fault, running: House) -> None:
    assert (heard.status, heard.complete) == (200, False)
    assert heard.error is not None
    if not outcome.cut:
        assert heard.text == fault.begun
        assert not any(one in heard.raw for one in LAST_WORDS)
        assert running.bad.id in heard.raw.decode()


def _check_tries(heard: Heard, outcome: Outcome, fault: Fault) -> None:
    """What the gateway tells of its attempts is what the engines have seen."""
    if outcome.asked is None:
        return
    asked = outcome.asked // fault.turns
    expected = asked + (1 if isinstance(outcome, Saved) else 0)
    told = expected if outcome.tries is None else outcome.tries
    assert heard.headers["x-gateway-attempts"] == str(told)


def _check_engine(running: House, outcome: Outcome, fault: Fault) -> None:
    """How often it was asked, where, and how fast."""
    asked = running.bad.seen[1:]
    if outcome.asked is not None:
        assert len(asked) == outcome.asked
    if fault.turns == 1:
        for former, latter in itertools.pairwise(asked):
            assert latter.at - former.at >= outcome.gap * 0.95
    for request in asked:
        assert request.path == running.path


async def _all_over(running: House) -> None:
    """What the engine at fault had begun, it is through with, or it was told to stop."""
    for request in running.bad.seen:
        async with asyncio.timeout(SOON):
            while not (request.answered or request.left.is_set()):
                await asyncio.sleep(0.01)


async def _next_is_answered(running: House, dialect: Dialect, fault: Fault, kind: Kind) -> None:
    """What the fault left behind on a connection is not the answer to the next request."""
    before = running.bad.seen[-1].connection
    for engine in (running.bad, *running.others):
        engine.heal(dialect.speech.answer)
    again = await dialect.ask(running.gateway, "aside", False)
    assert (again.text, again.complete, again.error) == (SAID, True, None)
    if fault.keeps and kind == "one":
        assert running.bad.seen[-1].connection == before
