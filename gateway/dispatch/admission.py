"""Waiting before a route's gate: the side of `gateway.routing.admission` that has tasks.

Rules of this file:

- A route without `concurrency` has no gate, and nobody here hears of its requests.
- Whoever is let in holds a `Pass` and must give it back; a client that leaves gives back its pass,
  or its place in the queue, at once.
- A gate outlives the configuration that made it: a reload changes its numbers, not who is inside.
  They are those of the configuration in force, also for a request that sees an earlier one.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping
from math import inf

from gateway.config.structs import Model
from gateway.dispatch.ask import Ask
from gateway.dispatch.turned_away import judge_refusal
from gateway.dispatch.verdict import Failure
from gateway.dispatch.watchdog import WaitTooLongError
from gateway.routing.admission import Gate, Moved, Priority, State, Visitor
from gateway.routing.table import Route
from gateway.telemetry.gates import GateState
from gateway.telemetry.metrics import Metrics

NO_PLACE = "no_place"
"""Why one is sent away that does not wait, beside the reasons of `Reason`."""
_BYTES = 2048
"""Of a request's body, that ask for as much as one more request does."""


class Admission:
    """The owner of the gates."""

    def __init__(self, metrics: Metrics) -> None:
        self._gates: dict[str, Gate] = {}
        self._gone: set[str] = set()
        """Gates that the configuration in force does not have, with those who still need them."""
        self._models: Mapping[str, Model] | None = None
        """Of the configuration in force; None while there was but one, which all requests see."""
        self._waking: dict[Visitor, asyncio.Future[None]] = {}
        self._metrics = metrics
        metrics.watch_gates(self.states)

    async def enter(self, ask: Ask, route: Route, deadline: float) -> Pass | Failure:
        """A place on `route`, as soon as there is one, or why there is none."""
        name = route.gate
        began = ask.watchdog.now()
        gate = self._gate(name, route)
        until = began + route.queue.timeout
        if route.budget is not None:  # whoever has waited for all of it would only be refused later
            if ask.stream and route.budget.ttft is not None:
                until = min(until, began + route.budget.ttft)
            if route.budget.total is not None:
                deadline = min(deadline, began + route.budget.total)
        visitor = _visitor(ask, until, deadline)
        self._tell(gate.arrive(visitor, began))
        if visitor.state is State.WAITING:
            await self._wait(ask, gate, visitor)
        self._metrics.queued(name, visitor.priority.name.lower(), ask.watchdog.now() - began)
        if visitor.refusal is not None:
            self._metrics.refused(name, visitor.priority.name.lower(), visitor.refusal.reason)
            self._forget()
            return judge_refusal(
                visitor.refusal.reason, visitor.refusal.retry_after, name, gate.places, gate.size
            )
        return Pass(self, gate, visitor, ask.watchdog.now)

    def try_enter(self, ask: Ask, route: Route) -> Pass | None:
        """A place on `route`, if there is one now: who asks so does not wait."""
        name, now = route.gate, ask.watchdog.now()
        gate, visitor = self._gate(name, route), _visitor(ask)
        priority = visitor.priority.name.lower()
        self._metrics.queued(name, priority, 0.0)
        if not gate.try_enter(visitor, now):
            self._metrics.refused(name, priority, NO_PLACE)
            return None
        return Pass(self, gate, visitor, ask.watchdog.now)

    def leave(self, gate: Gate, visitor: Visitor, now: float, *, served: bool) -> None:
        """Somebody is done inside."""
        self._tell(gate.leave(visitor, now, served=served))
        self._forget()

    def take_over(self, models: Mapping[str, Model], now: float) -> None:
        """Put the numbers of a new configuration in force, also for those who wait already.

        A gate that it does not have is forgotten once nobody is there. Where the model is, without
        a bound, all are let in.
        """
        self._models = models
        self._gone.clear()
        for name, gate in self._gates.items():
            model = models.get(name)
            if model is None or model.concurrency is None:
                self._gone.add(name)
            if model is not None:
                places = inf if model.concurrency is None else model.concurrency
                self._resize(gate, places, model.queue.size, now)
        self._forget()

    def states(self) -> Iterable[GateState]:
        """Each gate as it is now."""
        for name, gate in self._gates.items():
            waiting = {one.name.lower(): gate.waiting(one) for one in Priority}
            yield GateState(model=name, inside=gate.inside, places=gate.places, waiting=waiting)

    async def _wait(self, ask: Ask, gate: Gate, visitor: Visitor) -> None:
        """Until it is let in or sent away."""
        woken = self._waking[visitor] = asyncio.get_running_loop().create_future()
        try:
            await ask.watchdog.wait(woken, min(visitor.until, visitor.deadline))
        except WaitTooLongError:
            if visitor.state is State.WAITING:
                gate.give_up(visitor)
        except BaseException:
            if visitor.state is State.WAITING:
                gate.withdraw(visitor)
            elif visitor.state is State.INSIDE:
                self.leave(gate, visitor, ask.watchdog.now(), served=False)
            raise
        finally:
            del self._waking[visitor]

    def _tell(self, moved: Moved) -> None:
        for visitor in (*moved.inside, *moved.refused):
            woken = self._waking.get(visitor)
            if woken is not None and not woken.done():
                woken.set_result(None)

    def _gate(self, name: str, route: Route) -> Gate:
        assert route.concurrency is not None, "a route without it has no gate"
        gate = self._gates.get(name)
        if gate is None:
            places, size = route.concurrency, route.queue.size
            model = None if self._models is None else self._models.get(name)
            if model is not None and model.concurrency is not None:
                places, size = model.concurrency, model.queue.size
            elif self._models is not None:
                self._gone.add(name)
            gate = self._gates[name] = Gate(places, size)
        return gate

    def _forget(self) -> None:
        for name in list(self._gone):
            gate = self._gates[name]
            if not gate.inside and not any(gate.waiting(one) for one in Priority):
                self._gone.remove(name)
                del self._gates[name]

    def _resize(self, gate: Gate, places: float, size: int, now: float) -> None:
        if (gate.places, gate.size) != (places, size):
            gate.places, gate.size = places, size
            self._tell(gate.fill(now))


def _visitor(ask: Ask, until: float = inf, deadline: float = inf) -> Visitor:
    return Visitor(
        key=ask.key_name or "",
        priority=ask.priority,
        cost=1 + len(ask.body) / _BYTES,
        until=until,
        deadline=deadline,
    )


class Pass:
    """A place on a route. Whoever has it must `give_back` it."""

    __slots__ = ("_admission", "_gate", "_now", "_visitor")

    def __init__(
        self, admission: Admission, gate: Gate, visitor: Visitor, now: Callable[[], float]
    ) -> None:
        self._admission = admission
        self._gate = gate
        self._visitor = visitor
        self._now = now

    def asked(self, at: float) -> None:
        """Its answer was asked for only then: what went before says nothing of the next ones."""
        self._visitor.entered = at

    def give_back(self, *, served: bool = False) -> None:
        """Let the next one in; `served` with a whole answer or not. Idempotent."""
        if self._visitor.state is State.INSIDE:
            self._admission.leave(self._gate, self._visitor, self._now(), served=served)
