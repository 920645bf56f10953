"""Who goes on, by what is tried and what is not; on sockets: tests/faults/test_failover.py."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from backends.base import Endpoint, Readiness
from backends.capabilities import EVERYTHING
from gateway.config import structs
from gateway.dispatch.answer import EventStream
from gateway.dispatch.choice import Choice
from gateway.dispatch.failover_rules import CannotGoOnError, Way
from gateway.dispatch.handover import Handovers
from gateway.dispatch.successors import Place
from gateway.dispatch.verdict import DIVERGED, IDLE_TIMEOUT, Failure
from gateway.dispatch.watchdog import Watchdogs
from gateway.errors import UpstreamFailed
from gateway.routing.replica import Replica
from gateway.wire.resume import TRANSCRIPTS
from tests.support.upstream import ROLE, text

GREEDY = b'{"messages": [{"role": "user", "content": "Hi"}], "temperature": 0}'
SAMPLED = b'{"messages": [{"role": "user", "content": "Hi"}]}'


class Engine:
    provider = "vllm"
    capabilities = EVERYTHING

    def __init__(self):
        self.counting = asyncio.Event()

    async def count_text(self, address, text):
        self.counting.set()
        await asyncio.sleep(600)


def replica(name):
    one = Replica("engine", Engine(), f"http://{name}")
    one.observe(Readiness(True))
    return one


def failure(cause="reset", **more):
    return Failure(cause=cause, error=UpstreamFailed("it is gone"), **more)


class Tries:
    """An attempt loop whose attempts fail as told."""

    def __init__(self, *failures, budget=10):
        self.failures = list(failures)
        self.budget = budget
        self.picked = []
        self.tried = []

    def pick(self, ask, place, candidates):
        self.picked.append(candidates[0])
        return Choice(candidates[0], 1)

    def take_retry(self, at):
        self.budget -= 1
        return self.budget >= 0

    def give_back_retry(self, at):
        self.budget += 1

    async def try_on(self, ask, place, choice, deadline, goes_on):
        self.tried.append(choice.replica)
        said = self.failures.pop(0)
        return object.__new__(EventStream) if said is None else said


class House:
    """Handovers of an answer that says "Once" and that the first of `replicas` has begun."""

    def __init__(self, tries, *, replicas=2, body=GREEDY, attempts=3, total=100.0):
        self.replicas = [replica(f"r{number}") for number in range(replicas)]
        variant = SimpleNamespace(able=lambda: self.replicas, checkpoint=None)
        route = SimpleNamespace(
            failover=structs.Failover(attempts=attempts),
            retry=structs.Retry(max_backoff=0.1),
            timeouts=structs.Timeouts(idle=50.0),
            concurrency=None,
            gate="tale",
        )
        self.watchdog = Watchdogs().watch(asyncio.current_task())
        self.ask = SimpleNamespace(
            endpoint=Endpoint.CHAT,
            body=body,
            needs=frozenset(),
            watchdog=self.watchdog,
            record=SimpleNamespace(request_id="r-1"),
        )
        self.attempts = [SimpleNamespace(replica=one, route=route) for one in self.replicas]
        transcript = TRANSCRIPTS[Endpoint.CHAT]()
        transcript.add(ROLE + text("Once"))
        self.left = 0
        self.handovers = Handovers(
            SimpleNamespace(attempt=self.attempts[0]),
            Place(route, variant),
            self.watchdog.now() + total,
            tries,
            transcript,
            self._leave,
        )

    def _leave(self):
        self.left += 1

    def broke(self, number=0, cause="reset", lasted=1.0, way=None, **more):
        self.handovers.broke(self.attempts[number], failure(cause, **more), lasted, way)

    async def to_another(self):
        return await self.handovers.to_another(self.ask)


async def test_another_one_goes_on_and_a_try_is_taken():
    tries = Tries(None)
    house = House(tries)
    house.broke()
    assert (await house.to_another()).way is Way.REPLAY
    assert tries.tried == [house.replicas[1]]
    assert tries.budget == 9


async def test_a_policy_hears_nothing_of_a_retry_that_is_refused():
    tries = Tries(budget=0)
    house = House(tries)
    house.broke()
    with pytest.raises(CannotGoOnError, match="budget"):
        await house.to_another()
    assert not tries.picked


async def test_a_policy_hears_nothing_where_there_is_no_way():
    tries = Tries()
    house = House(tries, body=b'{"messages": [], "grammar": "root ::= x"}')
    house.broke()
    with pytest.raises(CannotGoOnError, match="held to a form"):
        await house.to_another()
    assert not tries.picked
    assert tries.budget == 10


async def test_a_client_that_leaves_before_the_attempt_gives_its_retry_back():
    tries = Tries()
    house = House(tries, body=SAMPLED)
    house.broke()

    async def go_on():
        house.ask.watchdog = house.watchdog.of(asyncio.current_task())
        try:
            await house.to_another()
        finally:
            house.ask.watchdog.close()

    going_on = asyncio.create_task(go_on())
    await house.replicas[1].backend.counting.wait()
    assert tries.budget == 9
    going_on.cancel()
    with pytest.raises(asyncio.CancelledError):
        await going_on
    assert tries.budget == 10
    assert not tries.tried


async def test_counting_tokens_takes_no_longer_than_the_request_has():
    tries = Tries()
    house = House(tries, body=SAMPLED, total=0.05)
    house.broke()
    with pytest.raises(CannotGoOnError, match="out of time"):
        await house.to_another()
    assert tries.budget == 10


async def test_attempts_are_bounded_and_end_with_the_latest_failure():
    tries = Tries(*[failure("http_500")] * 3)
    house = House(tries, replicas=5)
    house.broke()
    with pytest.raises(CannotGoOnError, match="3 more attempts"):
        await house.to_another()
    assert tries.tried == house.replicas[1:4]
    assert house.handovers.last_words() == f"{house.replicas[3].id} failed it (http_500)"


async def test_what_no_retry_mends_ends_it():
    tries = Tries(failure("http_400", retry=False))
    house = House(tries, replicas=3)
    house.broke()
    with pytest.raises(CannotGoOnError, match="it is gone"):
        await house.to_another()
    assert tries.tried == [house.replicas[1]]


async def test_who_said_something_else_is_asked_again_only_to_continue():
    tries = Tries(None, None)
    house = House(tries, replicas=3)
    house.broke()
    await house.to_another()
    house.broke(1, DIVERGED)
    assert (await house.to_another()).way is Way.REPLAY
    assert tries.tried == house.replicas[1:]


@pytest.mark.parametrize(
    ("broke", "way"),
    [
        ([(0, "reset", 20.0, None)], Way.REPLAY),
        ([(0, "reset", 60.0, None)], None),
        ([(0, IDLE_TIMEOUT, 70.0, None)], Way.REPLAY),
        ([(0, "reset", 60.0, None), (1, "reset", 1.0, Way.REPLAY)], None),
        ([(0, "reset", 20.0, None), (1, "reset", 20.0, Way.REPLAY)], Way.REPLAY),
        ([(0, "reset", 30.0, None), (1, "reset", 30.0, Way.CONTINUE)], None),
    ],
)
async def test_a_replay_takes_as_long_as_it_took_to_say_it_all(broke, way):
    """50 s are left. A silence takes no time to say, and who repeats less has shown less."""
    tries = Tries(None)
    house = House(tries, replicas=3, total=50.0)
    for one in house.replicas:
        one.backend.provider = "openai"  # which is not known to continue
    for number, cause, lasted, how in broke:
        house.broke(number, cause, lasted, how)
    if way is None:
        with pytest.raises(CannotGoOnError, match="no time"):
            await house.to_another()
    else:
        assert (await house.to_another()).way is way


async def test_its_places_are_given_back():
    house = House(Tries())
    house.handovers.close()
    assert house.left == 1


class BehindAGate(Tries):
    """The only other replica is another model's, of the same weights; there is room for one."""

    def __init__(self, *failures, **more):
        super().__init__(*failures, **more)
        self.other = replica("other")
        self.inside = 0

    def have_house(self, **more):
        house = House(self, replicas=1, **more)
        begun = house.handovers._place.variant
        begun.checkpoint, begun.adapter = "tale", None
        elsewhere = SimpleNamespace(
            able=lambda: [self.other], replicas=[self.other], checkpoint="tale", adapter=None
        )
        self.route = SimpleNamespace(gate="other", concurrency=1, variants=[elsewhere])
        house.broke()
        return house

    def chain(self, ask):
        return [self.route]

    def try_enter(self, ask, route):
        assert route is self.route
        self.inside += 1
        return SimpleNamespace(give_back=self._leave)

    def _leave(self):
        self.inside -= 1


class TestAPlaceBehindAnotherGate:
    async def test_is_given_back_where_the_budget_refuses_the_attempt(self):
        tries = BehindAGate(budget=0)
        house = tries.have_house()
        with pytest.raises(CannotGoOnError, match="budget"):
            await house.to_another()
        assert tries.inside == 1
        house.handovers.close()
        house.handovers.close()
        assert (tries.inside, house.left) == (0, 2)

    async def test_is_given_back_where_the_client_leaves_before_the_attempt(self):
        tries = BehindAGate()
        house = tries.have_house(body=SAMPLED)

        async def go_on():
            house.ask.watchdog = house.watchdog.of(asyncio.current_task())
            try:
                await house.to_another()
            finally:
                house.ask.watchdog.close()

        going_on = asyncio.create_task(go_on())
        await tries.other.backend.counting.wait()
        assert tries.inside == 1
        going_on.cancel()
        with pytest.raises(asyncio.CancelledError):
            await going_on
        house.handovers.close()
        assert tries.inside == 0

    async def test_is_kept_by_who_goes_on_until_the_end(self):
        tries = BehindAGate(None)
        house = tries.have_house()
        await house.to_another()
        assert (tries.tried, tries.inside, house.left) == ([tries.other], 1, 1)
        house.handovers.close()
        assert tries.inside == 0
