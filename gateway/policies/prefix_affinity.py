"""Where the longest beginning of the prompt is known, unless too much waits there already.

Every replica is given a price in tokens, and the cheapest is picked: what it has still to compute,
a share for each request that it has, and what of this prompt it has not computed yet. The last
counts `STICKINESS` times: to compute a prompt in a second place costs the time, and pushes out of
that place's cache what others will ask for. So a conversation stays where it is until the
replica has so much more to do than the least loaded that going there is worth it, and a prompt
that nobody knows goes to the least loaded.

A replica whose engine says that it has no room costs `NO_ROOM` more, and is not left out: what it
says is old, and all would run to the few others. And to leave the places of prompts because
engines are full makes them compute more, and fuller (`python -m bench.balancing sweep no_room`).

Sources: V. Srivatsa et al., "Preble: Efficient Distributed Prompt Scheduling for LLM Serving"
(ICLR 2025), for load and recomputation in one price; the KV router of NVIDIA Dynamo, which weighs
them against each other in the same way.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf
from random import Random
from typing import ClassVar

from backends.load import Demand
from gateway.policies.base import BYTES_PER_TOKEN, C, Candidate, Prefix, RequestView
from gateway.policies.by_weight import choose_by_weight
from gateway.policies.memory import forget_absent
from gateway.policies.prefix_blocks import BOUNDARIES
from gateway.policies.prefix_memory import BLOCKS, PrefixMemory
from gateway.policies.saturation import is_saturated

STICKINESS = 4.0
"""How many times the computing of a prompt's unknown part counts."""
REQUEST = 512
"""Tokens of a prompt whose computing takes an engine as long as the rest of one request does:
its answer, in a batch with others."""
NO_ROOM = 4096
"""Tokens that a replica costs more whose engine says that it has no room."""
AWAY = 10.0
"""Seconds for which others were picked and a replica could not be: after that it has probably been
started anew, with nothing in its cache."""


class PrefixAffinity:
    """Remembers for each replica the beginnings of the prompts that it was sent."""

    wants_demand: ClassVar[bool] = True

    def __init__(
        self,
        *,
        stickiness: float = STICKINESS,
        request: float = REQUEST,
        no_room: float = NO_ROOM,
        blocks: int = BLOCKS,
        ends: Sequence[int] = BOUNDARIES,
        saturated: Callable[[Demand], bool] = is_saturated,
    ) -> None:
        """`blocks`: how many to remember of each replica; `ends`: where they end, in bytes."""
        self._stickiness = stickiness
        self._request = request
        self._no_room = no_room
        self._blocks = blocks
        self._ends = ends
        self._is_saturated = saturated
        self._memories: dict[str, PrefixMemory] = {}
        self._last_pick = 0.0

    def pick(self, candidates: Sequence[C], request: RequestView, rng: Random) -> C:
        now, prefix = request.now, request.prefix()
        cheapest: list[C] = []
        known: list[int] = []
        lowest = inf
        for one in candidates:
            its = self._known(one, prefix, now)
            price = self._price(one, prefix.size - its, now)
            if price < lowest:
                cheapest, known, lowest = [one], [its], price
            elif price == lowest:
                cheapest.append(one)
                known.append(its)
        self._last_pick = now
        picked = choose_by_weight(cheapest, now, rng)
        request.known = known[cheapest.index(picked)]
        if prefix.blocks:
            self._memory(picked, candidates, now).learn(prefix.blocks)
        return picked

    def _known(self, replica: Candidate, prefix: Prefix, now: float) -> int:
        """Bytes of the prompt's beginning that `replica`, which can be picked, has computed."""
        memory = self._memories.get(replica.id)
        if memory is None:
            return 0
        if self._last_pick - memory.seen_at > AWAY:
            memory.forget()
        memory.seen_at = now
        blocks = memory.known(prefix.blocks)
        return self._ends[blocks - 1] if blocks else 0

    def _price(self, replica: Candidate, unknown: int, now: float) -> float:
        """In tokens; `unknown` bytes may be below 0, where a picture is in what is known."""
        tokens = replica.pending_tokens + self._request * replica.outstanding
        if unknown > 0:
            tokens += self._stickiness * unknown / BYTES_PER_TOKEN
        demand = replica.demand(now)
        if demand is not None:
            tokens += self._request * replica.foreign(now)
            if self._is_saturated(demand):
                tokens += self._no_room
        return tokens / replica.weight(now)

    def _memory(
        self, replica: Candidate, candidates: Sequence[Candidate], now: float
    ) -> PrefixMemory:
        memory = self._memories.get(replica.id)
        if memory is None:
            forget_absent(self._memories, candidates)
            memory = self._memories[replica.id] = PrefixMemory(self._blocks, now)
        return memory
