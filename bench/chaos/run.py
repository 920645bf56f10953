"""A run: the undisturbed answers, load, deeds, and the vitals before and after."""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import NamedTuple

import httpx
import msgspec

from bench.chaos.ask import ask
from bench.chaos.dialects import DIALECTS
from bench.chaos.house import DISTURBED, MODELS, REPLICAS, TOTAL, House, house, new_client
from bench.chaos.judge import HONEST, Heard, Right, Verdict, judge
from bench.chaos.schedule import Deed
from bench.chaos.vitals import Vitals, attempts, ready_replicas, vitals
from bench.processes import rss_mb

QUESTIONS = (
    "Tell me a long story about Mia.",
    "What is the capital of Peru?",
    "Count from 1 to 100.",
    "Tell me a long story about Tom.",
    "What is 3 + 4?",
    "Write a long story about Leo.",
    "Give me a JSON object with name and age for Tom, 7.",
)
_SLACK = 10.0
"""Seconds beyond the gateway's own deadline after which a request counts as hung."""
_MENDING = 60.0
_IDLE = 6.0
"""Seconds until connections that nobody uses are closed."""
_KEPT = 20
"""Slips of which more is told than how many there were; as many again are for dishonest ones."""
_SAMPLES = 20


class Kind(NamedTuple):
    """How a question is asked."""

    dialect: str
    streamed: bool

    def __str__(self) -> str:
        return f"{self.dialect}, {'streamed' if self.streamed else 'whole'}"


KINDS = tuple(Kind(dialect, streamed) for dialect in DIALECTS for streamed in (True, False))
_SHARES = [6 if kind.dialect == "chat" else 2 for kind in KINDS]


class Slip(msgspec.Struct, frozen=True):
    """A request that did not end as it should."""

    at: float
    verdict: Verdict
    kind: Kind
    question: str
    heard: Heard


Answers = dict[tuple[Kind, str], Right]
"""By the way in which a question is asked, and the question."""


class Result(msgspec.Struct):
    """What came of a run."""

    seconds: float
    verdicts: dict[Kind, Counter[Verdict]]
    slips: list[Slip]
    before: Vitals
    after: Vitals
    attempts: Counter[str]
    """How the gateway's attempts ended, and how often an answer went on elsewhere."""
    rss_mb: list[float]
    """Memory along the way, in equal steps."""
    bugs: list[str]
    """What the gateway's log tells of bugs of its own."""

    @property
    def unanswered(self) -> float:
        """The share of requests that got no right answer; 1 where nobody asked."""
        total = sum(counter.total() for counter in self.verdicts.values())
        right = sum(counter[Verdict.RIGHT] for counter in self.verdicts.values())
        return 1 - right / total if total else 1.0

    @property
    def dishonest(self) -> int:
        """Requests that ended as none may."""
        return sum(
            number
            for counter in self.verdicts.values()
            for verdict, number in counter.items()
            if verdict not in HONEST
        )


class Load:
    """Clients that ask one question after the other until told to stop, and judge each answer."""

    def __init__(self, client: httpx.AsyncClient, right: Answers, clients: int) -> None:
        self._client = client
        self._right = right
        self._stop = asyncio.Event()
        self._began = asyncio.get_running_loop().time()
        self.verdicts: dict[Kind, Counter[Verdict]] = {kind: Counter() for kind in KINDS}
        self.slips: list[Slip] = []
        self._tasks = [asyncio.create_task(self._go_on(at)) for at in range(clients)]

    async def end(self) -> None:
        """Let every client have its last answer. Raises what one of them did."""
        self._stop.set()
        await asyncio.gather(*self._tasks)

    async def _go_on(self, number: int) -> None:
        random = Random(number)
        while not self._stop.is_set():
            question = random.choice(QUESTIONS)
            (kind,) = random.choices(KINDS, _SHARES)
            heard = await _ask(self._client, kind, DISTURBED, question, TOTAL + _SLACK)
            verdict = judge(heard, self._right[kind, question])
            self.verdicts[kind][verdict] += 1
            honest = verdict in HONEST
            if verdict is not Verdict.RIGHT and len(self.slips) < _KEPT * (1 if honest else 2):
                at = asyncio.get_running_loop().time() - self._began
                self.slips.append(Slip(at, verdict, kind, question, heard))


async def _ask(
    client: httpx.AsyncClient, kind: Kind, model: str, question: str, within: float
) -> Heard:
    dialect = DIALECTS[kind.dialect]
    return await ask(client, dialect, model, question, streamed=kind.streamed, within=within)


async def chaos(
    directory: Path, deeds: Sequence[Deed], seconds: float, *, clients: int, warm_up: float
) -> Result:
    """Play `deeds`. Raises `RuntimeError` where the house never comes to rest."""
    async with house(directory) as home, new_client(home.url, clients + 2) as client:
        await _at_rest(home, client)
        right = await undisturbed(client)
        load = Load(client, right, clients)
        await asyncio.sleep(warm_up)
        await load.end()
        before, tried = await _at_rest(home, client), await attempts(client)
        load = Load(client, right, clients)
        memory = asyncio.create_task(_memory(home.pid, seconds))
        await _play(home, deeds, seconds)
        await load.end()
        await home.mend()
        after = await _at_rest(home, client)
        tries = await attempts(client) - tried
        return Result(
            seconds=seconds,
            verdicts=load.verdicts,
            slips=load.slips,
            before=before,
            after=after,
            attempts=tries,
            rss_mb=await memory,
            bugs=home.bugs(),
        )


async def undisturbed(client: httpx.AsyncClient) -> Answers:
    """What each question is answered with. Raises `RuntimeError` where the engines do not agree."""
    right: Answers = {}
    for kind, question in itertools.product(KINDS, QUESTIONS):
        asked = [_ask(client, kind, model, question, TOTAL) for model in MODELS]
        for model, heard in zip(MODELS, await asyncio.gather(*asked), strict=True):
            if heard.error or heard.odd or not heard.done or not heard.finish or not heard.tokens:
                raise RuntimeError(f"{model} does not answer {question!r} ({kind}): {heard}")
            said = Right(heard.text, heard.finish, heard.tokens)
            if right.setdefault((kind, question), said) != said:
                others = right[kind, question]
                raise RuntimeError(f"{model} says {said} to {question!r} ({kind}), not {others}")
    return right


async def _play(home: House, deeds: Sequence[Deed], seconds: float) -> None:
    loop = asyncio.get_running_loop()
    began = loop.time()
    for deed in deeds:
        await asyncio.sleep(began + deed.at - loop.time())
        print(deed, file=sys.stderr)
        await home.do(deed)
    await asyncio.sleep(max(0.0, began + seconds - loop.time()))


async def _memory(pid: int, seconds: float) -> list[float]:
    """What the gateway holds, in MB, `_SAMPLES` times in so many seconds."""
    samples = []
    for _ in range(_SAMPLES):
        await asyncio.sleep(seconds / _SAMPLES)
        samples.append(rss_mb(pid))
    return samples


async def _at_rest(home: House, client: httpx.AsyncClient) -> Vitals:
    """Wait until all replicas are ready and nothing is in flight; what the gateway holds then."""
    try:
        async with asyncio.timeout(_MENDING):
            while await ready_replicas(client) < REPLICAS:
                await asyncio.sleep(0.2)
    except TimeoutError:
        raise RuntimeError(f"not all replicas are ready within {_MENDING:g} s") from None
    await asyncio.sleep(_IDLE)
    return await vitals(home.pid, client)
