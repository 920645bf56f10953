"""Decide how an answer that broke off in the middle may go on. Pure; the table is the whole policy.

*Replay* asks again from the start, compares what comes with what the client has had, and hands on
what follows. It is exact, or it fails openly. *Continue* gives the text so far to the engine as the
beginning of its answer: cheaper, but the text is cut into tokens anew, so what follows need not be
what would have followed.

| the answer                                                | goes on by                  |
|-----------------------------------------------------------|-----------------------------|
| is whole but for its end                                  | its end, made here          |
| is longer than what is kept, or has more in it than is    |                             |
|   understood here, as sound has                           | nothing                     |
| greedy, or seeded and the engine of the same kind         | replay                      |
| … whose replay said something else on this replica, or    |                             |
|   would take longer than there is time                    | continue, if that may be    |
| … whose replay said something else on another one, and    |                             |
|   this is the last attempt                                | continue, if that may be,   |
|                                                           |   else replay               |
| sampled                                                   | continue, if that may be    |

Continue may be where there is text and nothing else so far (no call of a tool, no thinking), which
is held to no form, of an engine that is known to go on from a text, at which it is clear where it
ends: `n` is 1, nothing is echoed, and log-probabilities are in no event but their own.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

from backends.base import Backend, Endpoint
from backends.capabilities import Capability
from gateway.wire.resume.continuation import PREFILLS
from gateway.wire.resume.sampling import Sampling

_FORMS = frozenset({Capability.JSON_OBJECT, Capability.JSON_SCHEMA, Capability.FORCED_TOOLS})
_CHOICES = (Endpoint.CHAT, Endpoint.COMPLETIONS)


class Way(StrEnum):
    """How another engine goes on with an answer; the value of the metric's label."""

    REPLAY = "replay"
    CONTINUE = "continue"


class CannotGoOnError(Exception):
    """An answer stays broken off; the message says why, for the operator."""


class Standing(msgspec.Struct, frozen=True, kw_only=True):
    """How an answer stands that has broken off."""

    endpoint: Endpoint
    needs: frozenset[Capability]
    """What its request asks of an engine."""
    sampling: Sampling
    overfull: bool
    """More has been said than is kept."""
    incomparable: bool = False
    """Something has been said of which nobody could tell if it is said once more."""
    only_text: bool
    """What has been said is text, and there is some."""
    took: float
    """Seconds that it took to say it so far."""
    left: float
    """Seconds until the whole request must be over."""
    diverged: bool = False
    """The one that would go on has said something else when asked again."""
    doubted: bool = False
    """Somebody has."""
    last: bool = False
    """There will be no other attempt after this one."""


def choose_way(standing: Standing, began: Backend, next_one: Backend) -> Way:
    """How `next_one` goes on with what `began` has begun. Raises `CannotGoOnError`."""
    if standing.overfull:
        raise CannotGoOnError("more has been said than is kept")
    if standing.incomparable:
        raise CannotGoOnError("something has been said that cannot be compared")
    why_no_replay = _why_no_replay(standing, began, next_one)
    if not why_no_replay and not (standing.doubted and standing.last):
        return Way.REPLAY
    why_no_continuation = _why_no_continuation(standing, next_one)
    if not why_no_continuation:
        return Way.CONTINUE
    if not why_no_replay:
        return Way.REPLAY
    raise CannotGoOnError(f"{why_no_replay}, and {why_no_continuation}")


def _why_no_replay(standing: Standing, began: Backend, next_one: Backend) -> str:
    sampling = standing.sampling
    exact = sampling.greedy or (sampling.seeded and began.provider == next_one.provider)
    if not exact:
        return "it would be another one if it was asked for again"
    if standing.diverged:
        return "it was another one when it was asked for there again"
    if standing.took > standing.left:
        return "there is no time to say it all again"
    return ""


def _why_no_continuation(standing: Standing, engine: Backend) -> str:
    if not standing.only_text:
        return "there is more to it than text to go on from"
    if standing.needs & _FORMS or standing.sampling.constrained:
        return "it is held to a form"
    if Capability.PREFILL in standing.needs or not standing.sampling.only_goes_on:
        return "where it begins is not clear"
    if Capability.LOGPROBS in standing.needs and standing.endpoint not in _CHOICES:
        return "its last event tells the log-probabilities of all of it"
    needed = {Capability.CHAT, Capability.PREFILL}
    if standing.endpoint is Endpoint.COMPLETIONS:
        needed = {Capability.COMPLETIONS}
    elif engine.provider not in PREFILLS:
        return "its engine is not known to go on from a text"
    if not needed <= engine.capabilities:
        return "its engine cannot go on from a text"
    return ""
