"""`python -m bench.choosing`: what it costs to choose a replica, by policy and size of the prompt.

CPU microseconds of one choice, with all that is made for it: the prompt and its hashes, where the
policy looks. Every prompt is new to the policy, and its chat is as long as it says. The best of
several rounds counts: whatever else the machine does makes rounds slower, and never faster.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Sequence
from random import Random
from typing import Any, cast

import msgspec

from backends.base import Backend, Endpoint
from gateway.dispatch.ask import Ask
from gateway.dispatch.choice import choose
from gateway.policies import POLICIES
from gateway.routing.replica import Replica
from gateway.routing.table import Variant
from gateway.wire.fields import Fields
from gateway.wire.peek import peek

_SIZES = (1, 8, 32, 128)
_REPLICAS = (2, 8)
_REQUESTS = 200
_TURN = "Tell me more about what the gateway does with its microseconds. "


class _Fleet(msgspec.Struct):
    """What of a variant a choice looks at."""

    replicas: tuple[Replica, ...]
    policy: Any


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.choosing", description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    rounds = parser.parse_args().rounds
    header = "".join(f"{size:>7} KB" for size in _SIZES)
    print(f"{'policy':<20}{'replicas':>8}{header}   CPU us a choice")
    cases = [("any", 1), *((policy, count) for policy in POLICIES for count in _REPLICAS)]
    for policy, count in cases:
        costs = [
            _cost(next(iter(POLICIES)) if count == 1 else policy, count, size << 10, rounds)
            for size in _SIZES
        ]
        print(f"{policy:<20}{count:>8}" + "".join(f"{cost:>10.1f}" for cost in costs))


def _cost(policy: str, count: int, size: int, rounds: int) -> float:
    return min(_round(policy, count, _bodies(size, start)) for start in range(rounds))


def _round(policy: str, count: int, bodies: Sequence[bytes]) -> float:
    """Microseconds of a choice, for requests of these `bodies` and a policy that is new."""
    nowhere = cast(Backend, None)
    replicas = tuple(Replica("engine", nowhere, f"http://10.0.0.{at}") for at in range(count))
    variant = cast(Variant, _Fleet(replicas, POLICIES[policy]()))
    asks = [_ask(body) for body in bodies]
    rng = Random(1)
    began = time.process_time()
    for ask in asks:
        choose(variant, replicas, ask, session=lambda: b"somebody", now=0.0, rng=rng)
    return (time.process_time() - began) / len(asks) * 1e6


def _bodies(size: int, start: int) -> list[bytes]:
    return [
        msgspec.json.encode(
            {
                "model": "assistant",
                "messages": [
                    {"role": "user", "content": f"{start}/{number} " + _TURN * (size // len(_TURN))}
                ],
            }
        )
        for number in range(_REQUESTS)
    ]


def _ask(body: bytes) -> Ask:
    unused: Any = None
    return Ask(
        endpoint=Endpoint.CHAT,
        body=body,
        peeked=peek(Endpoint.CHAT, body),
        model="",
        stream=False,
        needs=frozenset(),
        client_headers=Fields(),
        engine_headers=(),
        table=unused,
        route=unused,
        principal=None,
        record=unused,
        span=unused,
        watchdog=unused,
    )


if __name__ == "__main__":
    main()
