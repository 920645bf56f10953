"""Balancing policies: which replica of a variant takes the next attempt.

One file per policy, each a class with a single `pick`. A policy is told what may be picked
and is not asked whether: health, breakers and earlier tries of the same request are the
caller's business. A new policy is one new file plus one name in `POLICIES`.
"""

from __future__ import annotations

from collections.abc import Callable

from gateway.policies.base import NO_PREFIX, Candidate, Policy, Prefix, RequestView
from gateway.policies.least_outstanding import LeastOutstanding
from gateway.policies.p2c_ewma import P2cEwma
from gateway.policies.prefix_affinity import PrefixAffinity
from gateway.policies.random_choice import RandomChoice
from gateway.policies.round_robin import RoundRobin
from gateway.policies.session import Session

POLICIES: dict[str, Callable[[], Policy]] = {
    "least_outstanding": LeastOutstanding,
    "p2c_ewma": P2cEwma,
    "prefix_affinity": PrefixAffinity,
    "random": RandomChoice,
    "round_robin": RoundRobin,
    "session": Session,
}

__all__ = ["NO_PREFIX", "POLICIES", "Candidate", "Policy", "Prefix", "RequestView"]
