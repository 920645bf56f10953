"""What every engine in this process needs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

from msgspec import Meta

from backends.base import Backend
from backends.inprocess.pooling import Pooling
from backends.options.base import Options
from backends.units import Timeout

if TYPE_CHECKING:
    from backends.inprocess.backend import InProcessBackend

PoolingOption = Literal["auto", Pooling]


class InProcessOptions(Options, frozen=True, kw_only=True):
    """What every engine in this process needs."""

    model: Annotated[str, Meta(min_length=1)]
    """What to load, and from where."""
    max_batch: Annotated[int, Meta(ge=1, le=256)] = 16
    """Sequences generated together; further requests wait."""
    max_waiting: Annotated[int, Meta(ge=0)] = 256
    """Sequences that may wait for a place in the batch; beyond it 429."""
    queue_timeout: Timeout = Timeout(45)
    """How long a request may wait for a place; then 429. Below `first_token`, after which nobody
    waits for a stream any more."""
    isolation: Literal["thread", "process"] = "thread"
    """Where the engine runs: in a thread of the gateway, or in a supervised process of its own, so
    that a crash of the engine is no crash of the gateway."""
    stall_timeout: Timeout = Timeout(60)
    """How long it may have requests and make no token, before it counts as hung; in a process of
    its own it is then killed and started again."""
    start_timeout: Timeout = Timeout(300)
    """How long a process of its own may take from its start to its first token."""

    def open(self, name: str) -> Backend:
        """See `Options.open`. What is missing or broken shows in `start`."""
        if self.isolation == "thread":
            return self.open_here(name)
        from backends.isolation.options import IsolatedOptions  # noqa: PLC0415

        return IsolatedOptions.of(self).open(name)

    def open_here(self, name: str) -> InProcessBackend:
        """Build the adapter for an engine in this process. Imports no engine yet."""
        raise NotImplementedError

    def adapter(self) -> type[InProcessBackend]:
        """The class of what `open_here` builds: what such an engine can."""
        raise NotImplementedError
