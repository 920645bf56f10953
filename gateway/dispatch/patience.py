"""How long an answer is waited for that nothing can be seen of yet.

Of a stream that is its first content, for which it has `first_token`. Of an answer in one piece
nothing is seen before it is whole, and that it is long is no sign of a dead engine. So something
else stands in for the events:

- Where the adapter makes the answer of a stream, by its events: `first_token` and `idle` hold
  as for any stream. But who sends answers in one piece often sends many at a time, and they wait
  for their turn in the engine: what the replica says to others prolongs the wait for the first.
- Else a health check that was answered, or a token for anybody, is the sign of life, and `idle` is
  how long there may be none. A replica that nobody has found at fault is waited for: an ejection
  says that it fails requests, and not that it is gone.

Source of the second: Envoy's `close_connections_on_host_health_failure`, with a delay, so that an
engine that is too busy for one health check does not lose all that it has worked on.

Pure: time is passed in, in monotonic seconds.
"""

from __future__ import annotations

from gateway.config.structs import Timeouts
from gateway.dispatch.verdict import FIRST_TOKEN_TIMEOUT, IDLE_TIMEOUT
from gateway.routing.replica import Replica
from gateway.wire.watch import StreamWatch

_LOOK = 1.0
"""Seconds after which at the latest is looked again: nothing tells when a replica goes."""


class Patience:
    """With one attempt."""

    __slots__ = ("_asked_at", "_heard_at", "_replica", "_streamed", "_timeouts", "look", "watch")

    def __init__(
        self, replica: Replica, timeouts: Timeouts, asked_at: float, *, streamed: bool = False
    ) -> None:
        """`streamed`: the client sees the events itself."""
        self._replica = replica
        self._timeouts = timeouts
        self._asked_at = asked_at
        self._streamed = streamed
        self.watch: StreamWatch | None = None
        """For the events that an answer in one piece is made of, where the adapter tells them."""
        self._heard_at: float | None = None
        self.look = min(timeouts.idle, timeouts.first_token, _LOOK)
        """Seconds for which nothing need be looked at, whatever comes."""

    @property
    def has_content(self) -> bool:
        """Whether something has come that a user would see."""
        return self._heard_at is not None

    def heard(self, block: bytes, now: float) -> bool:
        """Take note of whole events; whether they say that the engine generates."""
        watch = self.watch
        assert watch is not None, "nobody tells events of this one"
        if not watch.content:
            watch.feed(block)  # as in a stream: a role, or an empty message, is none
        elif block.startswith(b":") and b"\ndata" not in block:
            return False  # it comes from the engine's server, while the engine may hang
        if watch.content:
            self._heard_at = now
        return watch.content

    def left(self, now: float) -> tuple[float, str]:
        """Seconds for which it is waited by what is known now, and what ends the wait then."""
        timeouts, replica = self._timeouts, self._replica
        if self._streamed:
            return self._asked_at + timeouts.first_token - now, FIRST_TOKEN_TIMEOUT
        if self._heard_at is not None:
            return self._heard_at + timeouts.idle - now, IDLE_TIMEOUT
        if self.watch is not None:
            since = max(self._asked_at, replica.answered_at)
            return since + timeouts.first_token - now, FIRST_TOKEN_TIMEOUT
        gone = replica.gone_since
        since = now if gone is None else max(self._asked_at, gone)
        return since + timeouts.idle - now, IDLE_TIMEOUT
