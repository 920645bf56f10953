"""The gateway's side of the simulation: its own policies, loads and breakers, and nothing copied.

What `gateway/dispatch` does with sockets and tasks is done here with events: candidates, pick,
begin, first token, end.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from random import Random

from backends.base import Endpoint
from backends.load import Demand
from bench.balancing.engine import Engine, Machine
from bench.balancing.traces import Turn
from gateway.policies import Policy, Prefix, RequestView
from gateway.policies.base import BYTES_PER_TOKEN
from gateway.policies.prefix_blocks import BOUNDARIES, block_hashes
from gateway.routing.breaker import Breaker
from gateway.routing.load import ReplicaLoad
from gateway.wire.peek import peek
from gateway.wire.prompt import apart, prompt_of


class Host:
    """A machine with an engine on it, whoever asks it."""

    def __init__(self, number: int, machine: Machine) -> None:
        self.number = number
        self.machine = machine
        self.engine = Engine(machine)
        self.alive = True

    def die(self) -> None:
        """With all that it has cached."""
        self.alive = False
        self.engine = Engine(self.machine)


class Replica:
    """What one gateway knows of a host: what its policy sees."""

    def __init__(self, host: Host, weight: float = 1.0) -> None:
        self.id = f"replica-{host.number}"
        self.host = host
        self.load = ReplicaLoad()
        self.breaker = Breaker()
        self._weight = weight

    @property
    def outstanding(self) -> int:
        return self.load.outstanding

    @property
    def pending_tokens(self) -> int:
        return self.load.pending_tokens

    def weight(self, now: float) -> float:  # noqa: ARG002 (none starts slowly here)
        return self._weight

    def first_token_time(self, now: float) -> float | None:
        return self.load.first_token_time(now)

    def demand(self, now: float) -> Demand | None:
        return self.load.demand(now)

    def foreign(self, now: float) -> int:
        return self.load.foreign(now)

    def poll(self, now: float) -> None:
        """Ask the engine what is asked of it, as the gateway does from time to time."""
        if self.host.alive:
            engine = self.host.engine
            self.load.heard(now, Demand(engine.running, engine.waiting, engine.cache.usage))


class Prompts:
    """What the gateway makes of each body, once for all policies that the trace is played through.

    As `gateway/dispatch/ask.py` does it.
    """

    def __init__(self, ends: Sequence[int] = BOUNDARIES) -> None:
        """`ends`: where blocks end, in bytes."""
        self._ends = ends
        self._prefixes: dict[int, Prefix] = {}

    def prefix(self, turn: Turn) -> Prefix:
        """The prompt, as a policy sees it."""
        key = turn.work.runs[-1].key
        prefix = self._prefixes.get(key)
        if prefix is None:
            peeked = peek(Endpoint.CHAT, turn.body())
            prompt = prompt_of(Endpoint.CHAT, peeked)
            blocks = block_hashes(prompt, hash(apart(peeked)), self._ends)
            prefix = Prefix(len(prompt), tuple(blocks))
            self._prefixes[key] = prefix
        return prefix


class Fleet:
    """One gateway: replicas behind one policy."""

    def __init__(
        self, replicas: Sequence[Replica], policy: Policy, prompts: Prompts, rng: Random
    ) -> None:
        self.replicas = replicas
        self.policy = policy
        self._prompts = prompts
        self._rng = rng

    def pick(
        self, turn: Turn, session: bytes, tried: Collection[Replica], now: float
    ) -> tuple[Replica, int]:
        """Whom the gateway asks, and how many tokens of the prompt it expects it to compute.

        Those not tried yet, the healthy ones first; where all have been, all.
        See `gateway/dispatch/choice.py`.
        """
        fresh = [one for one in self.replicas if one not in tried]
        healthy = [one for one in fresh if one.breaker.allows(now)]
        view = RequestView(now, lambda: self._prompts.prefix(turn), lambda: session)
        replica = self.policy.pick(healthy or fresh or self.replicas, view, self._rng)
        return replica, max(0, turn.work.prompt_tokens - view.known // BYTES_PER_TOKEN)
