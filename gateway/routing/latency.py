"""How long an answer will take on a replica: learnt from those before, in two lines. Pure.

    first token = overhead + (tokens ahead + tokens of the prompt) ÷ prefill rate
    whole       = first token + tokens of the answer ÷ decode rate

The first line is a regression, not a quotient: a prompt of ten tokens says nothing about how fast
a prompt is computed, only what else the way to its first token costs. What is not known is None,
and nobody is turned away for it. Tokens of prompts are estimated ones throughout, so their unit
is the same on both sides.

Source: exponentially weighted moments, after T. Finch, "Incremental calculation of weighted mean
and variance" (University of Cambridge, 2009), with a covariance beside the variance.
"""

from __future__ import annotations

from typing import NamedTuple

ENOUGH = 8
"""Answers before anything is said."""
STALE = 10.0
"""Seconds without news after which a replica is given another chance."""
_NEWS = 0.05
"""How much of what is known the latest answer makes out, once there are enough."""
_SPREAD = 0.05
"""Standard deviation of x, as a share of its mean, below which nothing can be said of a slope."""


class Mean:
    """A mean that follows what is new."""

    __slots__ = ("_value", "count")

    def __init__(self) -> None:
        self._value = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        """One more."""
        self.count += 1
        self._value += max(_NEWS, 1 / self.count) * (value - self._value)

    @property
    def value(self) -> float | None:
        """None while there is not enough to go by."""
        return self._value if self.count >= ENOUGH else None


class Line:
    """y by x, as a straight line that follows what is new; it never falls."""

    __slots__ = ("_covariance", "_variance", "_x", "_y", "count")

    def __init__(self) -> None:
        self._x = self._y = self._variance = self._covariance = 0.0
        self.count = 0

    def add(self, x: float, y: float) -> None:
        """One more point."""
        self.count += 1
        share = max(_NEWS, 1 / self.count)
        off_x, off_y = x - self._x, y - self._y
        self._x += share * off_x
        self._y += share * off_y
        self._variance = (1 - share) * (self._variance + share * off_x * off_x)
        self._covariance = (1 - share) * (self._covariance + share * off_x * off_y)

    @property
    def slope(self) -> float:
        """y per x; 0 where the x's are too much alike to tell."""
        if self._variance <= (_SPREAD * self._x) ** 2:
            return 0.0
        return max(0.0, self._covariance / self._variance)

    def at(self, x: float) -> float | None:
        """y; None while there is not enough to go by."""
        if self.count < ENOUGH:
            return None
        return max(0.0, self._y + self.slope * (x - self._x))


class Rates:
    """What one replica's answers have shown."""

    __slots__ = ("_first_token", "_per_token", "_probed_at", "heard_at")

    def __init__(self) -> None:
        self._first_token = Line()
        self._per_token = Mean()
        self._probed_at = 0.0
        self.heard_at = 0.0
        """When the last answer began."""

    def first_token(self, tokens: int, seconds: float, now: float) -> None:
        """A first token took `seconds`, with `tokens` to be computed before it."""
        self._first_token.add(tokens, seconds)
        self.heard_at = now

    def may_probe(self, now: float) -> bool:
        """Whether a busy replica is given a chance now: one request each `STALE` seconds."""
        if now - self._probed_at <= STALE:
            return False
        self._probed_at = now
        return True

    def decoded(self, tokens: int, seconds: float) -> None:
        """After the first token `tokens` more came within `seconds`."""
        if tokens > 0:
            self._per_token.add(seconds / tokens)

    @property
    def prefill(self) -> float | None:
        """Tokens of prompts a second; None while that is not known."""
        slope = self._first_token.slope
        return 1 / slope if slope and self._first_token.count >= ENOUGH else None

    @property
    def decode(self) -> float | None:
        """Tokens a second in one answer; None while that is not known."""
        return 1 / self._per_token.value if self._per_token.value else None

    def forecast(self, ahead: int, prompt: int, output: float | None) -> Forecast:
        """An answer of `output` tokens to a prompt of `prompt`, behind `ahead` of others."""
        alone, behind = self._first_token.at(prompt), self._first_token.at(ahead + prompt)
        queue = None if alone is None or behind is None else behind - alone
        each = self._per_token.value
        decode = None if output is None or each is None else output * each
        return Forecast(queue, alone, decode)


class Forecast(NamedTuple):
    """Seconds; None for what is not known."""

    queue: float | None
    prefill: float | None
    decode: float | None

    @property
    def first_token(self) -> float | None:
        """Until the first token."""
        if self.queue is None or self.prefill is None:
            return None
        return self.queue + self.prefill

    @property
    def total(self) -> float | None:
        """Until the last one."""
        first = self.first_token
        return None if first is None or self.decode is None else first + self.decode

    def excess(self, first_token: float | None, total: float | None) -> float:
        """Seconds beyond what there is for either, where that is bounded; 0 or less is in time."""
        late = [
            taken - given
            for taken, given in ((self.first_token, first_token), (self.total, total))
            if taken is not None and given is not None
        ]
        return max(late, default=0.0)


class Expected:
    """What a route's requests are like."""

    __slots__ = ("_output", "_ratio")

    def __init__(self) -> None:
        self._output = Mean()
        self._ratio = Mean()

    def learn(self, estimated: int, prompt: int | None, output: int | None) -> None:
        """An answer of `output` tokens to a prompt of `prompt`, which were `estimated`."""
        if prompt and estimated:
            self._ratio.add(prompt / estimated)
        if output is not None:
            self._output.add(output)

    def output(self, limit: int | None) -> float | None:
        """Tokens that an answer will have, of which it may have `limit`; None for unknown."""
        usual = self._output.value
        return usual if usual is None or limit is None else min(usual, float(limit))

    def prompt(self, estimated: int) -> int:
        """About how many tokens a prompt has by the engine's own count."""
        ratio = self._ratio.value
        return estimated if ratio is None else round(ratio * estimated)


class Lesson:
    """What one attempt shows, as it goes."""

    __slots__ = ("_began_at", "_estimated", "_expected", "_first_at", "_rates", "_tokens")

    def __init__(
        self, rates: Rates, expected: Expected, tokens: int, estimated: int, now: float
    ) -> None:
        """It is sent now: with `tokens` to compute before its first one, `estimated` its own."""
        self._rates = rates
        self._expected = expected
        self._tokens = tokens
        self._estimated = estimated
        self._began_at = now
        self._first_at: float | None = None

    def first_token(self, now: float) -> None:
        """Its first content has come."""
        self._first_at = now
        self._rates.first_token(self._tokens, now - self._began_at, now)

    def over(self, now: float, prompt: int | None, output: int | None) -> None:
        """It has come to its end, with so many tokens as far as the engine counts them."""
        self._expected.learn(self._estimated, prompt, output)
        if self._first_at is not None and output is not None:
            self._rates.decoded(output - 1, now - self._first_at)
