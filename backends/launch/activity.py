"""Whether an engine works, rests or hangs, told by what it was asked and what came. Pure.

A port that answers says little: an engine can answer health checks over a dead generator. So it is
progress that counts: pieces of replies, and where none come, one token asked for by the gateway.
"""

from __future__ import annotations

from enum import Enum

PROBE_WHEN_IDLE = 60.0
"""Seconds without any progress after which an idle engine is asked for a token: one a minute."""


class Look(Enum):
    """What a look at an engine says should be done."""

    NOTHING = "nothing"
    PROBE = "probe"
    """It may hang: ask it for a token."""
    UNLOAD = "unload"
    """Nobody has wanted it for long enough."""


class Activity:
    """What one engine is asked, and when something last came of it; times in seconds."""

    __slots__ = ("_proven", "last_used", "pending", "progress_at", "running")

    def __init__(self, now: float) -> None:
        self.running = 0
        """Requests sent to it and not yet ended."""
        self.pending = 0
        """Requests that wait until it is ready."""
        self.last_used = now
        """When a request last began or ended."""
        self.progress_at = now
        """When something last came of a request, or one first began on an engine that was well."""
        self._proven = True
        """Something has come since the last request began that found nobody else waiting."""

    @property
    def busy(self) -> bool:
        """Whether anybody waits for it, or for something from it."""
        return self.running > 0 or self.pending > 0

    def begin(self, now: float) -> None:
        """A request is sent. One after others of which nothing came does not begin a new count."""
        if self.running == 0 and self._proven:
            self.progress_at = now
            self._proven = False
        self.running += 1
        self.last_used = now

    def end(self, now: float) -> None:
        """A request has ended, somehow."""
        self.running -= 1
        self.last_used = now

    def progress(self, now: float) -> None:
        """Something came of a request, or of a probe."""
        self.progress_at = now
        self._proven = True

    def look(self, now: float, *, stall_timeout: float, idle_unload: float | None) -> Look:
        """What to do about the engine, which serves."""
        if idle_unload is not None and not self.busy and now - self.last_used >= idle_unload:
            return Look.UNLOAD
        patience = stall_timeout if self.running or not self._proven else PROBE_WHEN_IDLE
        return Look.PROBE if now - self.progress_at >= patience else Look.NOTHING
