"""Replicas as a policy sees them, for tests of policies."""

from __future__ import annotations

from dataclasses import dataclass

from backends.load import Demand
from gateway.policies import Prefix, RequestView
from gateway.policies.prefix_blocks import block_hashes


@dataclass
class FakeReplica:
    """A `gateway.policies.Candidate` that is as it is told to be."""

    id: str
    outstanding: int = 0
    weighs: float = 1.0
    pending_tokens: int = 0
    ttft: float | None = None
    said: Demand | None = None
    others: int = 0

    def weight(self, now):
        return self.weighs

    def first_token_time(self, now):
        return self.ttft

    def demand(self, now):
        return self.said

    def foreign(self, now):
        return self.others


def replicas(names, **fields):
    """One for each letter of `names`, alike."""
    return [FakeReplica(name, **fields) for name in names]


def view(prompt=b"", *, session=b"", now=0.0):
    """A request with this prompt and session."""
    return RequestView(now, lambda: Prefix(len(prompt), block_hashes(prompt, 0)), lambda: session)
