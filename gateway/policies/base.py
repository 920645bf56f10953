"""What a policy is given and what it gives back."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Protocol, TypeVar


class Candidate(Protocol):
    """What a policy may know about a replica."""

    @property
    def outstanding(self) -> int: ...


C = TypeVar("C", bound=Candidate)


class Policy(Protocol):
    """Chooses among replicas."""

    def pick(self, candidates: Sequence[C], rng: Random) -> C:
        """One of `candidates`, of which there is at least one."""
        ...
