"""What policies remember by replica stays as small as the number of replicas."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from gateway.policies.base import Candidate

_SLACK = 16
"""Replicas more than there are candidates that are remembered: some are away for a moment."""


def forget_absent(remembered: dict[str, Any], candidates: Sequence[Candidate]) -> None:
    """Drop from `remembered`, which is by id, what has grown beyond `candidates`.

    Which replicas are gone for good a policy is not told. So those that are missing are kept as
    long as they are few, and dropped together when they are not.
    """
    if len(remembered) > len(candidates) + _SLACK:
        present = {one.id for one in candidates}
        for name in [name for name in remembered if name not in present]:
            del remembered[name]
