"""Who may in, who waits, and who is sent away: the gate in front of one route. Pure.

Rules of this file:

- Nobody waits while there is room, and at most `size` wait.
- A higher class goes first, and takes the place of the lowest class where the queue is full.
- Within a class keys take turns by what they ask for, not by how often they ask: start-time fair
  queuing. Whoever is quiet for a while saves nothing up, and nobody pays for what it did not get.
- Nobody waits for what would come too late: whoever cannot be served in time by what is known of
  how long a request takes is sent away at once, and told when to come back. That is what keeps a
  route at three times its load as useful as at its load: no place is spent on an answer that
  nobody waits for any more.
- Time is passed in; a visitor is in one of `State`'s states, and leaves exactly once.

Sources: P. Goyal, H. M. Vin, H. Cheng, "Start-time Fair Queuing" (IEEE/ACM Transactions on
Networking, 1997); Little's law for how long a place in the queue will take; V. Jacobson,
"Congestion Avoidance and Control" (SIGCOMM 1988), for a mean with its deviation.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Sequence
from enum import Enum, IntEnum, StrEnum
from math import inf
from typing import NamedTuple

_NEWS = 0.1
"""How much of the estimated time in service the latest one makes out."""
_MARGIN = 2.0
"""Mean deviations beyond the mean that a request may need: nearly all of them need less."""
_MANY_KEYS = 64


class Priority(IntEnum):
    """The classes: the lower, the sooner."""

    HIGH = 0
    NORMAL = 1
    LOW = 2

    @property
    def for_engines(self) -> int:
        """The same as vLLM says it, and engines in this process: lower goes first, 0 is usual."""
        return self - Priority.NORMAL


class State(Enum):
    """Where a visitor is."""

    OUTSIDE = "outside"
    WAITING = "waiting"
    INSIDE = "inside"


class Reason(StrEnum):
    """Why one is sent away."""

    FULL = "queue_full"
    """As many wait as may."""
    SHED = "shed"
    """Somebody more urgent has its place in the queue."""
    LATE = "too_late"
    """It would not be served in the time that it has."""
    TIMEOUT = "queue_timeout"
    """It has waited for as long as one may."""


class Refusal(NamedTuple):
    """Why one is sent away, and in how many seconds it is worth coming back."""

    reason: Reason
    retry_after: float


class Visitor:
    """One request before the gate."""

    __slots__ = (
        "cost",
        "deadline",
        "entered",
        "key",
        "priority",
        "refusal",
        "state",
        "tag",
        "until",
    )

    def __init__(
        self,
        *,
        key: str = "",
        priority: Priority = Priority.NORMAL,
        cost: float = 1.0,
        until: float = inf,
        deadline: float = inf,
    ) -> None:
        self.key = key
        """Among whom places are shared fairly."""
        self.priority = priority
        self.cost = cost
        """What it asks for, relative to others."""
        self.until = until
        """When it will have waited long enough."""
        self.deadline = deadline
        """When its answer must be complete."""
        self.state = State.OUTSIDE
        self.tag: tuple[float, int] = (0.0, 0)
        """Its place in its class: its start time, and its number among equals."""
        self.refusal: Refusal | None = None
        """Why it was sent away, if it was."""
        self.entered = 0.0
        """When it came in; or, where its engine could only be asked later, when that was."""


class Moved(NamedTuple):
    """Who is somewhere else now, and should be told."""

    inside: Sequence[Visitor] = ()
    refused: Sequence[Visitor] = ()


class Gate:
    """A route's places, and who waits for them."""

    def __init__(self, places: float, size: int) -> None:
        self.places = places
        """Requests that may be inside at a time; like `size`, it may be changed, also to infinity:
        then all may."""
        self.size = size
        """Requests that may wait."""
        self.inside = 0
        self._classes = tuple(_Class() for _ in Priority)
        self._count = 0
        self._service: float | None = None
        self._deviation = 0.0

    def waiting(self, priority: Priority) -> int:
        """How many of that class wait."""
        return len(self._classes[priority].queue)

    @property
    def service(self) -> float | None:
        """Seconds for which one is inside, by the latest ones; None while nobody was served."""
        return self._service

    def arrive(self, visitor: Visitor, now: float) -> Moved:
        """Let `visitor` in, have it wait, or send it away; it may push somebody else out."""
        if self.try_enter(visitor, now):
            return Moved(inside=(visitor,))
        lane = self._classes[visitor.priority]
        wait = self._wait(self._ahead(visitor))
        if self._is_late(visitor, now, wait):
            return Moved(refused=(_refuse(visitor, Reason.LATE, wait),))
        pushed: Visitor | None = None
        if sum(len(one.queue) for one in self._classes) >= self.size:
            pushed = self._least_urgent(visitor)
            if pushed is None:
                return Moved(refused=(_refuse(visitor, Reason.FULL, wait),))
            self.withdraw(pushed)
            _refuse(pushed, Reason.SHED, self._wait(self._ahead(pushed)))
        visitor.state = State.WAITING
        lane.charge(visitor)
        insort(lane.queue, visitor, key=_tag)
        return Moved(refused=() if pushed is None else (pushed,))

    def try_enter(self, visitor: Visitor, now: float) -> bool:
        """Let `visitor` in if there is room and nobody waits; else it stays outside."""
        self._count += 1
        lane = self._classes[visitor.priority]
        visitor.tag = (lane.start(visitor.key), self._count)
        if self.inside >= self.places or any(one.queue for one in self._classes):
            return False
        lane.charge(visitor)
        self._enter(visitor, now)
        return True

    def leave(self, visitor: Visitor, now: float, *, served: bool = True) -> Moved:
        """`visitor`, who is inside, is done: whoever comes next may in.

        Only of who was `served` is it learnt how long that takes: an outage that fails everybody at
        once says nothing of it, nor does a client that left.
        """
        visitor.state = State.OUTSIDE
        self.inside -= 1
        if served:
            self._learn(now - visitor.entered)
        return self.fill(now)

    def fill(self, now: float) -> Moved:
        """Let in whom there is room for, and send away those for whom it is too late by now."""
        inside, refused = [], []
        while self.inside < self.places:
            lane = next((one for one in self._classes if one.queue), None)
            if lane is None:
                if not self.inside:
                    for one in self._classes:
                        one.rest()
                break
            visitor = lane.queue.pop(0)
            if self._is_late(visitor, now, 0.0):
                lane.refund(visitor)
                refused.append(_refuse(visitor, Reason.LATE, self._wait(1)))
                continue
            self._enter(visitor, now)
            inside.append(visitor)
        return Moved(inside, refused)

    def withdraw(self, visitor: Visitor) -> None:
        """`visitor`, who waits, does so no longer."""
        lane = self._classes[visitor.priority]
        del lane.queue[bisect_left(lane.queue, visitor.tag, key=_tag)]
        lane.refund(visitor)
        visitor.state = State.OUTSIDE

    def give_up(self, visitor: Visitor) -> None:
        """`visitor` has waited for as long as it may."""
        wait = self._wait(self._ahead(visitor))
        self.withdraw(visitor)
        _refuse(visitor, Reason.TIMEOUT, wait)

    def _learn(self, took: float) -> None:
        if self._service is None:
            self._service = took
        off = took - self._service
        self._service += _NEWS * off
        self._deviation += _NEWS * (abs(off) - self._deviation)

    def _enter(self, visitor: Visitor, now: float) -> None:
        visitor.state, visitor.entered = State.INSIDE, now
        self.inside += 1
        self._classes[visitor.priority].advance(visitor)

    def _ahead(self, visitor: Visitor) -> int:
        """How many would go in before it does."""
        before = sum(len(one.queue) for one in self._classes[: visitor.priority])
        return before + bisect_left(self._classes[visitor.priority].queue, visitor.tag, key=_tag)

    def _wait(self, ahead: int) -> float:
        """Seconds until one with so many ahead goes in; 0 while that is not known."""
        return 0.0 if self._service is None else (ahead + 1) * self._service / self.places

    def _is_late(self, visitor: Visitor, now: float, wait: float) -> bool:
        if now + wait > visitor.until:
            return True
        needed = 0.0 if self._service is None else self._service + _MARGIN * self._deviation
        return now + wait + needed > visitor.deadline

    def _least_urgent(self, visitor: Visitor) -> Visitor | None:
        """Who makes room for `visitor`: the last one of the lowest class below its own, or in its
        own one whose key has asked for more."""
        for lane in reversed(self._classes[visitor.priority + 1 :]):
            if lane.queue:
                return lane.queue[-1]
        own = self._classes[visitor.priority].queue
        return own[-1] if own and own[-1].tag[0] > visitor.tag[0] else None


class _Class:
    """Those of one priority, in the order in which they go in."""

    def __init__(self) -> None:
        self.queue: list[Visitor] = []
        self._time = 0.0
        """The start time of whoever went in last: the class's virtual time."""
        self._finish: dict[str, float] = {}
        """When, in that time, each key will have had what it has asked for."""
        self._bound = _MANY_KEYS

    def start(self, key: str) -> float:
        """The start time of the key's next request."""
        return max(self._time, self._finish.get(key, 0.0))

    def charge(self, visitor: Visitor) -> None:
        """Count what it asks for to its key."""
        self._finish[visitor.key] = visitor.tag[0] + visitor.cost
        if len(self._finish) > self._bound:  # who has had its turn starts at the class's time
            self._finish = {key: at for key, at in self._finish.items() if at > self._time}
            self._bound = _MANY_KEYS + 2 * len(self._finish)

    def refund(self, visitor: Visitor) -> None:
        """It has left the queue unserved: its key's later ones move up to where it stood.

        Else a key would pay for what it never got, and fall behind for good under overload.
        """
        self._finish[visitor.key] = self._finish.get(visitor.key, 0.0) - visitor.cost
        behind = [one for one in self.queue if one.key == visitor.key and one.tag > visitor.tag]
        for one in behind:
            one.tag = (max(self._time, one.tag[0] - visitor.cost), one.tag[1])
        if behind:
            self.queue.sort(key=_tag)

    def rest(self) -> None:
        """Nobody is here any more: nobody has had more than others."""
        self._finish.clear()

    def advance(self, visitor: Visitor) -> None:
        """It goes in."""
        self._time = max(self._time, visitor.tag[0])


def _tag(visitor: Visitor) -> tuple[float, int]:
    return visitor.tag


def _refuse(visitor: Visitor, reason: Reason, retry_after: float) -> Visitor:
    visitor.state = State.OUTSIDE
    visitor.refusal = Refusal(reason, retry_after)
    return visitor
