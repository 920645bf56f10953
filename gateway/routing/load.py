"""What a replica has to do, as far as this gateway sees and its engine says.

Rules of this file:

- Every attempt is a `Work`: begun once, ended once, whatever comes of it. So no count leaks.
- What an engine says is advice: too old or never said is unknown, not zero.
- Time is passed in (monotonic seconds); owned by one event loop.
"""

from __future__ import annotations

from math import exp

from backends.load import Demand
from gateway.routing.latency import Rates

DECAY = 10.0
"""Seconds over which the estimated time to the first token forgets: Finagle's `decayTime`."""
FRESH = 5.0
"""Seconds for which an engine's word holds."""


class ReplicaLoad:
    """The load of one replica; the estimates begin as unknown."""

    __slots__ = (
        "_demand",
        "_estimate",
        "_estimated_at",
        "_foreign",
        "heard_at",
        "known_tokens",
        "outstanding",
        "pending_tokens",
        "prompt_tokens",
        "rates",
    )

    def __init__(self) -> None:
        self.outstanding = 0
        """Attempts that have begun and not ended."""
        self.pending_tokens = 0
        """Of their prompts, what the engine has probably still to compute."""
        self.prompt_tokens = 0
        """Of all attempts so far, known or not."""
        self.known_tokens = 0
        """Those of them that the engine had probably computed before."""
        self.heard_at: float | None = None
        """When its engine last said what is asked of it."""
        self.rates = Rates()
        """How fast it is: learnt on routes that have a latency budget."""
        self._demand: Demand | None = None
        self._foreign = 0
        self._estimate: float | None = None
        self._estimated_at = 0.0

    def begin(self, now: float, tokens: int, known: int = 0) -> Work:
        """An attempt is sent, with `tokens` of a prompt to compute beside `known` ones."""
        self.prompt_tokens += tokens + known
        self.known_tokens += known
        return Work(self, now, tokens)

    def first_token_time(self, now: float) -> float | None:
        """Seconds to the first token, estimated; None where none has come yet."""
        if self._estimate is None:
            return None
        return self._estimate * exp((self._estimated_at - now) / DECAY)

    def first_token_came(self, now: float, seconds: float) -> None:
        """Learn from an attempt that took `seconds` to its first token.

        Peak-EWMA: a worse time is believed at once, a better one by and by, and one that is not
        renewed fades, so that a slow replica is tried again.
        Source: Twitter Finagle, `com.twitter.finagle.loadbalancer.PeakEwma`; linkerd's default.
        """
        before = self._estimate
        if before is None or seconds > before:
            self._estimate = seconds
        else:
            kept = exp((self._estimated_at - now) / DECAY)
            self._estimate = before * kept + seconds * (1 - kept)
        self._estimated_at = now

    def heard(self, now: float, demand: Demand) -> None:
        """The engine has said what is asked of it."""
        self._demand, self.heard_at = demand, now
        self._foreign = max(0, demand.running + demand.waiting - self.outstanding)

    def demand(self, now: float) -> Demand | None:
        """What the engine said last; None where that is too old, or nothing."""
        if self.heard_at is None or now - self.heard_at > FRESH:
            return None
        return self._demand

    def foreign(self, now: float) -> int:
        """Requests that the engine had and this gateway had not sent, when it said so last."""
        return 0 if self.demand(now) is None else self._foreign


class Work:
    """One attempt's part of a replica's load. Whoever begins it must `end` it."""

    __slots__ = ("_ended", "_load", "_pending", "_started")

    def __init__(self, load: ReplicaLoad, now: float, tokens: int) -> None:
        self._load = load
        self._started = now
        self._pending = tokens
        self._ended = False
        load.outstanding += 1
        load.pending_tokens += tokens

    def first_token(self, now: float) -> None:
        """The first content has come: the prompt is computed."""
        self._load.first_token_came(now, now - self._started)
        self._computed()

    def overtaken(self, now: float) -> None:
        """Given up before its first content, because another one was faster: it would have
        taken longer than this."""
        seconds = now - self._started
        if seconds > (self._load.first_token_time(now) or 0.0):
            self._load.first_token_came(now, seconds)

    def end(self) -> None:
        """It is over, however. Idempotent."""
        if self._ended:
            return
        self._ended = True
        self._load.outstanding -= 1
        self._computed()

    def _computed(self) -> None:
        self._load.pending_tokens -= self._pending
        self._pending = 0
