"""What a scripted engine can be told to do: plain values, put one behind the other.

A script is a tuple of steps. It begins when a request has been read, or, where `BeforeBody` is its
first step, when only the head has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class BeforeBody:
    """Only as a first step: what follows happens before the request's body is read."""


@dataclass(frozen=True)
class StopReading:
    """Take no more from the socket, until `Upstream.release`: it piles up on the other side."""


@dataclass(frozen=True)
class Send:
    """Write these bytes, all at once; go on when the socket takes more."""

    data: bytes


@dataclass(frozen=True)
class Drip:
    """Write these bytes, so many at a time, each a write of its own."""

    data: bytes
    size: int = 1
    gap: float = 0.0


@dataclass(frozen=True)
class Pause:
    """Say nothing for so many seconds."""

    seconds: float


@dataclass(frozen=True)
class Hold:
    """Say nothing until the test lets the engine go on, with `Upstream.release`."""


@dataclass(frozen=True)
class Silence:
    """Say nothing until the other side leaves."""


@dataclass(frozen=True)
class Flood:
    """Write one piece over and over, as fast as the socket takes it, at most `limit` bytes."""

    piece: bytes
    limit: int


@dataclass(frozen=True)
class HalfClose:
    """Send no more, and go on reading."""


@dataclass(frozen=True)
class Close:
    """Close the connection properly."""


@dataclass(frozen=True)
class Reset:
    """Break the connection: the other side sees a reset."""


Step = (
    BeforeBody
    | StopReading
    | Send
    | Drip
    | Pause
    | Hold
    | Silence
    | Flood
    | HalfClose
    | Close
    | Reset
)
Script = Sequence[Step]
