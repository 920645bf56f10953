"""Whether an engine that is suspected to hang does: a token asked for, and its own count of steps.

Rules of this file:

- A token that does not come says little where others are in line before it: the engine may be busy
  with whole answers. It hangs only if what it counts itself stands still too.
- An engine that refuses for want of room is busy, and that is no verdict either.
- What cannot tell how far it is, such as a frozen process, is judged by the token alone.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec

from backends.readiness import Condition


class Token(msgspec.Struct, frozen=True):
    """What became of a token that was asked for."""

    made: bool
    why_not: str = ""
    refused: bool = False
    """For want of room: the engine was not reached."""
    condition: Condition = Condition.UNHEALTHY
    """What kind of reason there is, where it was not made."""


class Doubtful(Protocol):
    """An engine, as far as it takes to find out."""

    async def make_token(self, within: float) -> Token:
        """Ask for one token; it has `within` seconds."""
        ...

    async def steps(self, within: float) -> float | None:
        """A count that grows for as long as it generates; None where it cannot be told so soon."""
        ...


class Finding(msgspec.Struct, frozen=True):
    """What was found out."""

    moves: bool | None
    """Whether it generates; None where that cannot be told yet."""
    why_not: str = ""
    condition: Condition = Condition.UNHEALTHY
    """What kind of reason that is, where it does not."""


async def look_closely(engine: Doubtful, within: float) -> Finding:
    """Find out, in `within` seconds, or twice that where it says how far it is."""
    loop = asyncio.get_running_loop()
    until = loop.time() + within
    before, token = await asyncio.gather(engine.steps(within), engine.make_token(within))
    if token.made:
        return Finding(True)
    if token.condition is Condition.MISCONFIGURED:
        return Finding(False, token.why_not, token.condition)  # it gets on, but for others only
    if before is None:
        return Finding(None) if token.refused else Finding(False, token.why_not)
    await asyncio.sleep(max(0.0, until - loop.time()))
    after = await engine.steps(within)
    if after is None:
        return Finding(None) if token.refused else Finding(False, token.why_not)
    if after > before:
        return Finding(True)
    return Finding(False, f"{token.why_not}, and nothing else moves")
