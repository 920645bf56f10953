"""What a policy is given and what it gives back. Pure: clock and randomness are passed in."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import ClassVar, NamedTuple, Protocol, TypeVar

import msgspec

from backends.load import Demand

BYTES_PER_TOKEN = 4
"""Of a prompt: a rule of thumb for English. Only ratios between loads matter."""


class Candidate(Protocol):
    """What a policy may know about a replica. Times are monotonic seconds."""

    @property
    def id(self) -> str:
        """Unique among the replicas, and the same after a reload or a restart."""
        ...

    @property
    def outstanding(self) -> int:
        """Attempts that have been sent and not yet ended."""
        ...

    @property
    def pending_tokens(self) -> int:
        """Tokens of prompts that have been sent and of whose answer nothing has come: estimated,
        less what the replica has probably computed before."""
        ...

    def weight(self, now: float) -> float:
        """How much it can take relative to the others, above 0; little while it starts slowly."""
        ...

    def first_token_time(self, now: float) -> float | None:
        """Seconds to the first token, as a peak-EWMA; None where none has been seen."""
        ...

    def demand(self, now: float) -> Demand | None:
        """What its engine says is asked of it; None where that is not known or too old."""
        ...

    def foreign(self, now: float) -> int:
        """Requests that its engine says it has, and that this gateway has not sent; 0 where it says
        nothing."""
        ...


class Prefix(NamedTuple):
    """A prompt, as far as telling its beginning apart from others' needs it."""

    size: int
    """Bytes of text that it gives an engine as much to compute as: less than it has, where data of
    pictures is in it."""
    blocks: Sequence[int]
    """See `gateway.policies.prefix_blocks.block_hashes`."""


NO_PREFIX = Prefix(0, ())
"""Of a request whose prompt no engine remembers, or that has none."""


class RequestView(msgspec.Struct):
    """What a policy may know about the request that it picks a replica for; made for each pick."""

    now: float
    """Monotonic seconds."""
    prefix: Callable[[], Prefix] = lambda: NO_PREFIX
    """Its prompt: made when it is asked for, because few policies ask."""
    session: Callable[[], bytes] = bytes
    """What shall stay together on one replica; likewise."""
    known: int = 0
    """Set by the policy: bytes at the prompt's beginning that the replica it has picked has
    probably computed before."""


C = TypeVar("C", bound=Candidate)


class Policy(Protocol):
    """Chooses among replicas. Remembers what it must between its picks, within bounds."""

    wants_demand: ClassVar[bool]
    """Whether engines shall be asked regularly what is asked of them."""

    def pick(self, candidates: Sequence[C], request: RequestView, rng: Random) -> C:
        """One of `candidates`, of which there is at least one."""
        ...
