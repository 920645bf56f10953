"""Events in the order of their times, and nothing else: one trace, one fleet, one policy, one rate.

Open loop: conversations begin when the trace says so, whatever becomes of those before them. A
later turn comes a pause after the answer to the one before it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence
from enum import IntEnum
from typing import Any, NamedTuple

from bench.balancing.engine import Engine
from bench.balancing.fleet import Fleet, Host, Replica
from bench.balancing.traces import Conversation, Turn
from gateway.control.demand import INTERVAL

PATIENCE = 600.0
"""Seconds after the last arrival at which what has no answer is given up."""
MOST_ATTEMPTS = 10


class Death(NamedTuple):
    """A replica that dies, and comes back; in shares of the time over which requests arrive."""

    replica: int
    at: float
    back: float


class Attempt:
    """One try on one replica, and what the gateway notes of it there."""

    __slots__ = ("_epoch", "_load", "replica")

    def __init__(self, replica: Replica, now: float, tokens: int) -> None:
        self.replica = replica
        self._epoch = replica.breaker.sent(now)
        self._load = replica.load.begin(now, tokens)

    def first_token(self, now: float) -> None:
        self._load.first_token(now)

    def answered(self) -> None:
        self._load.end()
        self.replica.breaker.succeeded(self._epoch)

    def failed(self, now: float) -> None:
        self._load.end()
        self.replica.breaker.failed(self._epoch, now)


class Flight:
    """One request on its way; times in seconds, infinite where it did not come to it."""

    __slots__ = (
        "arrived",
        "attempt",
        "attempts",
        "cached",
        "conversation",
        "done",
        "first",
        "fleet",
        "generated",
        "tried",
        "turn",
    )

    def __init__(self, conversation: Conversation, turn: int, fleet: Fleet, arrived: float) -> None:
        self.conversation = conversation
        self.fleet = fleet
        """The gateway that it came to."""
        self.turn = turn
        """Its place in the conversation."""
        self.arrived = arrived
        self.first = math.inf
        self.done = math.inf
        self.cached = 0
        """Tokens of the prompt that had not to be computed for the first token."""
        self.generated = 0
        """Tokens of the answer that came from replicas that died."""
        self.attempts = 0
        self.tried: list[Replica] = []
        self.attempt: Attempt | None = None

    @property
    def asked(self) -> Turn:
        return self.conversation.turns[self.turn]

    @property
    def output_tokens(self) -> int:
        work = self.asked.work
        return work.tokens - work.prompt_tokens

    def first_token(self, now: float, cached: int) -> None:
        """Of this attempt; the client has seen one where an earlier attempt came to it."""
        assert self.attempt is not None
        self.attempt.first_token(now)
        if self.first == math.inf:
            self.first, self.cached = now, cached

    def end(self, now: float) -> None:
        assert self.attempt is not None
        self.attempt.answered()
        self.done = now


class _Kind(IntEnum):
    STEP = 0
    DEATH = 1
    BACK = 2
    POLL = 3
    TURN = 4


class Simulation:
    """Plays a trace; `flights` are all requests, in the order in which they came."""

    def __init__(
        self,
        trace: Sequence[Conversation],
        rate: float,
        fleets: Sequence[Fleet],
        deaths: Sequence[Death] = (),
    ) -> None:
        """`rate`: conversations that begin in a second, on average.

        `fleets`: gateways before the same hosts; conversations take them in turns.
        """
        self.flights: list[Flight] = []
        self.fleets = fleets
        self._events: list[tuple[float, int, _Kind, Any]] = []
        self._order = 0
        self._in_flight: dict[int, Flight] = {}
        self.arrivals_end = 0.0
        """When the last conversation begins."""
        self._turns = sum(len(one.turns) for one in trace)
        at = 0.0
        for number, one in enumerate(trace):
            at += one.gap / rate
            self._at(at, _Kind.TURN, (one, 0, fleets[number % len(fleets)]))
        self.arrivals_end = at
        for death in deaths:
            self._at(death.at * at, _Kind.DEATH, fleets[0].replicas[death.replica].host)
            self._at(death.back * at, _Kind.BACK, death.replica)
        if fleets[0].policy.wants_demand:
            self._at(INTERVAL, _Kind.POLL, None)

    def run(self) -> None:
        """Until all have their answer or are given up, or patience is over."""
        answered = 0
        while self._events and answered < self._turns:
            now, _, kind, what = heapq.heappop(self._events)
            if now > self.arrivals_end + PATIENCE:
                break
            if kind is _Kind.STEP:
                answered += self._step(now, *what)
            elif kind is _Kind.TURN:
                self._arrive(now, *what)
            elif kind is _Kind.POLL:
                for fleet in self.fleets:
                    for replica in fleet.replicas:
                        replica.poll(now)
                self._at(now + INTERVAL, _Kind.POLL, None)
            elif kind is _Kind.DEATH:
                self._die(now, what)
            else:
                self._come_back(what)

    def _at(self, time: float, kind: _Kind, what: Any) -> None:
        self._order += 1
        heapq.heappush(self._events, (time, self._order, kind, what))

    def _arrive(self, now: float, conversation: Conversation, turn: int, fleet: Fleet) -> None:
        flight = Flight(conversation, turn, fleet, now)
        self.flights.append(flight)
        self._send(flight, now)

    def _send(self, flight: Flight, now: float) -> None:
        """Find a replica that takes it: one that is dead refuses at once, and another is asked."""
        session = flight.conversation.session
        while flight.attempts < MOST_ATTEMPTS:
            flight.attempts += 1
            replica, tokens = flight.fleet.pick(flight.asked, session, flight.tried, now)
            attempt = Attempt(replica, now, tokens)
            if replica.host.alive:
                self._submit(flight, attempt, now)
                return
            attempt.failed(now)
            flight.tried.append(replica)

    def _submit(self, flight: Flight, attempt: Attempt, now: float) -> None:
        flight.attempt = attempt
        self._order += 1
        self._in_flight[self._order] = flight
        host = attempt.replica.host
        engine = host.engine
        due = engine.due
        engine.submit(self._order, flight.asked.work.after(flight.generated), now)
        if engine.due != due:
            self._at(engine.due, _Kind.STEP, (host, engine))

    def _step(self, now: float, host: Host, engine: Engine) -> int:
        """End an engine's steps; how many answers are complete with them."""
        if engine is not host.engine or now != engine.due:
            return 0  # it has died since, or its steps were cut short
        progress = engine.advance()
        if engine.due < math.inf:
            self._at(engine.due, _Kind.STEP, (host, engine))
        for sequence in progress.first_tokens:
            assert sequence.lease is not None
            self._in_flight[sequence.id].first_token(now, sequence.lease.hit_tokens)
        for sequence in progress.done:
            self._end(self._in_flight.pop(sequence.id), now)
        return len(progress.done)

    def _end(self, flight: Flight, now: float) -> None:
        flight.end(now)
        following = flight.turn + 1
        turns = flight.conversation.turns
        if following < len(turns):
            asked = (flight.conversation, following, flight.fleet)
            self._at(now + turns[following].pause, _Kind.TURN, asked)

    def _die(self, now: float, host: Host) -> None:
        """What it had goes on from where it was, on the others."""
        lost = host.engine.lost(now)
        host.die()
        for sequence, generated in lost:
            flight = self._in_flight.pop(sequence.id)
            assert flight.attempt is not None
            flight.attempt.failed(now)
            flight.generated += generated
            flight.tried = [flight.attempt.replica]
            self._send(flight, now)

    def _come_back(self, number: int) -> None:
        """As a new process, which the gateways' health probes find."""
        for fleet in self.fleets:
            fleet.replicas[number].host.alive = True
            fleet.replicas[number].breaker.reset()
