"""What happens when: drawn from a seed, so that a run that failed can be played again.

Pure. At any moment at least one of the engines that can be disturbed is left alone.
"""

from __future__ import annotations

from enum import StrEnum
from random import Random

import msgspec


class What(StrEnum):
    """What is done to the house."""

    KILL = "kill -9"
    RESTART = "SIGTERM"
    """Told to end, and started again once it has."""
    START = "start"
    FREEZE = "SIGSTOP"
    THAW = "SIGCONT"
    WEIGH = "save other weights"
    LEAVE_OUT = "save without the second replica"
    HANG_UP = "SIGHUP"


class Deed(msgspec.Struct, frozen=True):
    """One thing that is done."""

    at: float
    """Seconds since the beginning."""
    what: What
    engine: int | None = None
    """The number of the engine it is done to."""
    share: int = 0
    """Percent that the canary shall get."""

    def __str__(self) -> str:
        engine = "" if self.engine is None else f" engine {self.engine}"
        share = f" canary {self.share} %" if self.what is What.WEIGH else ""
        return f"{self.at:7.2f} s  {self.what}{engine}{share}"


_QUIET = 0.8
"""Seconds at the end in which nothing new is begun."""
_LONGEST_DOWN = 3.0
_LONGEST_FROZEN = 5.0
_ENGINE_DEEDS = (What.KILL, What.KILL, What.FREEZE, What.FREEZE, What.RESTART)
_FILE_DEEDS = (What.WEIGH, What.WEIGH, What.LEAVE_OUT, What.HANG_UP)
_FILE_SHARE = 0.3
"""Of all deeds, those that change the file or have it read again."""


def schedule(seed: int, seconds: float, *, engines: int, own: int, gap: float) -> list[Deed]:
    """Deeds in order, one about every `gap` seconds.

    Of `engines`, the first `own` are to be started again by whoever kills them; the others are
    the gateway's to start.
    """
    random = Random(seed)
    deeds: list[Deed] = []
    busy_until = [0.0] * engines
    at = random.uniform(0.2, gap)
    while at < seconds - _QUIET:
        if random.random() < _FILE_SHARE:
            what = random.choice(_FILE_DEEDS)
            deeds.append(Deed(at, what, share=random.randrange(0, 101, 10)))
        else:
            free = [one for one in range(engines) if busy_until[one] <= at]
            if len(free) > 1:
                one = random.choice(free)
                deeds += _disturb(random, at, one, own=one < own, end=seconds)
                busy_until[one] = deeds[-1].at + 1.0
        at += random.uniform(0.2, 2 * gap - 0.2)
    return sorted(deeds, key=lambda deed: deed.at)


def _disturb(random: Random, at: float, engine: int, *, own: bool, end: float) -> list[Deed]:
    """One of the things that can be done to an engine, and what makes it good again."""
    what = random.choice(_ENGINE_DEEDS if own else (What.KILL, What.FREEZE))
    if what is What.FREEZE:
        back = min(at + random.uniform(0.2, _LONGEST_FROZEN), end)
        return [Deed(at, what, engine), Deed(back, What.THAW, engine)]
    if not own:
        return [Deed(at, what, engine)]
    back = min(at + random.uniform(0.3, _LONGEST_DOWN), end)
    return [Deed(at, what, engine), Deed(back, What.START, engine)]
