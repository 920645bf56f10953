"""How long an answer will take on a replica: learnt from those before. Pure.

    first token = overhead + (tokens ahead + tokens of the prompt) ÷ prefill rate
    whole       = first token + tokens of the answer ÷ decode rate

The first line is a regression, not a quotient: a prompt of ten tokens says nothing about how fast
a prompt is computed, only what else the way to its first token costs. Of answers that come in one
piece the first token is not seen: what they take is learnt as one plane, by the tokens to compute
before it and those of the answer, and says only how long all of it takes.

Tokens of answers are those of the usage. Streams whose client does not want that tell no tokens:
there an event with text counts as one, which it is with most engines. Where it is not, a route's
answers are as much shorter as its engines are slower, and what they take comes out the same.

What is not known is None, and nobody is turned away for it. Tokens of prompts are estimated ones
throughout, so their unit is the same on both sides.
"""

from __future__ import annotations

from typing import NamedTuple

from gateway.routing.moments import ENOUGH, Line, Mean, Plane

STALE = 10.0
"""Seconds without news after which a replica is given another chance."""


class Rates:
    """What one replica's answers have shown."""

    __slots__ = ("_first_token", "_per_token", "_probed_at", "_unseen", "_whole", "heard_at")

    def __init__(self) -> None:
        self._first_token = Line()
        self._per_token = Mean()
        self._whole = Plane()
        self._unseen = 0
        """Answers since the last one whose first token was seen."""
        self._probed_at = 0.0
        self.heard_at = 0.0
        """When the last answer began."""

    def first_token(self, tokens: int, seconds: float, now: float) -> None:
        """A first token took `seconds`, with `tokens` to be computed before it."""
        self._first_token.add(tokens, seconds)
        self._unseen = 0
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

    def whole(self, tokens: int, output: int, seconds: float, now: float) -> None:
        """One of `output` tokens took `seconds`, with `tokens` to be computed before it; nothing
        was seen of it before."""
        self._whole.add(tokens, output, seconds)
        self._unseen += 1
        self.heard_at = now

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
        whole = None
        if output is not None and (self._unseen >= ENOUGH or alone is None):
            whole = self._whole.at(ahead + prompt, output)
        return Forecast(queue, alone, decode, whole)


class Forecast(NamedTuple):
    """Seconds; None for what is not known."""

    queue: float | None
    prefill: float | None
    decode: float | None
    whole: float | None = None
    """All of it, where answers in one piece have told that better than its parts do."""

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
        if self.whole is not None or first is None or self.decode is None:
            return self.whole
        return first + self.decode

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

    __slots__ = ("_began_at", "_estimated", "_expected", "_first_at", "_rates", "_tokens", "pieces")

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
        self.pieces: int | None = None
        """How many events with text its stream had, once it has ended."""

    def first_token(self, now: float) -> None:
        """Its first content has come."""
        self._first_at = now
        self._rates.first_token(self._tokens, now - self._began_at, now)

    def over(self, now: float, prompt: int | None, output: int | None) -> None:
        """It has come to its end, with so many tokens as far as the engine counts them."""
        output = self.pieces if output is None else output
        self._expected.learn(self._estimated, prompt, output)
        if output is None:
            return
        if self._first_at is not None:
            self._rates.decoded(output - 1, now - self._first_at)
        else:
            self._rates.whole(self._tokens, output, now - self._began_at, now)
