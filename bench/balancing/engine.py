"""An engine advances in steps: a token for each sequence that decodes, and a part of the prompts.

The scheduler is vLLM's (vllm/v1/core/sched): running sequences first, then those that wait, first
come first served, as far as the tokens of a step, the sequences and the KV blocks go. Without
chunked prefill a step is either whole prompts or tokens for all, as in vLLM before it.

A step's time is linear in what it does: Vidur (Agrawal et al., MLSys 2024) finds the parts that
are not linear, attention over long contexts, to be small below some ten thousand tokens.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from typing import NamedTuple

from bench.balancing.prefix_cache import Lease, PrefixCache
from bench.balancing.work import Work


class Machine(NamedTuple):
    """How fast an engine is, and what it has room for."""

    prefill: float = 10_000.0
    """Tokens of prompts per second."""
    step: float = 0.015
    """Seconds that a step takes at least: reading the weights."""
    per_sequence: float = 0.0001
    """Seconds more for each sequence that decodes in it."""
    max_sequences: int = 256
    step_tokens: int = 2048
    """Tokens that a step computes, of prompts and answers: vLLM's `max_num_batched_tokens`."""
    kv_tokens: int = 300_000
    block_tokens: int = 16
    chunked: bool = True
    prefix_caching: bool = True

    def slower(self, factor: float) -> Machine:
        """The same with all its speeds divided by `factor`."""
        return self._replace(
            prefill=self.prefill / factor,
            step=self.step * factor,
            per_sequence=self.per_sequence * factor,
        )


class Sequence:
    """A request in an engine."""

    __slots__ = ("computed", "decoding_since", "id", "lease", "work")

    def __init__(self, id: int, work: Work) -> None:  # noqa: A002 (the field's name for it)
        self.id = id
        self.work = work
        self.lease: Lease | None = None
        self.computed = 0
        """Tokens of its prompt."""
        self.decoding_since = -1
        """The count of decoding steps when its first token came; before that -1."""

    @property
    def last_step(self) -> int:
        """The count of decoding steps with which it is done."""
        return self.decoding_since + self.work.tokens - self.work.prompt_tokens - 1


class Progress(NamedTuple):
    """What the steps that have just ended brought."""

    first_tokens: list[Sequence]
    done: list[Sequence]


class Engine:
    """Has no clock: `due` says when its steps end, and `advance` is called then."""

    def __init__(self, machine: Machine) -> None:
        self.machine = machine
        self.cache = PrefixCache(machine.kv_tokens // machine.block_tokens, machine.block_tokens)
        self.due = math.inf
        self._waiting: deque[Sequence] = deque()
        self._prefilling: list[Sequence] = []
        self._decoding: list[tuple[int, int, Sequence]] = []
        """A heap by `last_step`."""
        self._count = 0
        """Decoding steps so far."""
        self._began = 0.0
        self._steps = 0
        """That are under way, one after the other: more than one where nothing can change."""
        self._step_time = 0.0
        self._decodes = False

    @property
    def running(self) -> int:
        return len(self._prefilling) + len(self._decoding)

    @property
    def waiting(self) -> int:
        return len(self._waiting)

    def submit(self, id: int, work: Work, now: float) -> None:  # noqa: A002
        """Queue a request. It is seen when the step under way is over."""
        had_none_waiting = not self._waiting
        self._waiting.append(Sequence(id, work))
        if not self._steps:
            self._start(now)
        elif had_none_waiting and self._steps > 1:
            begun = int((now - self._began) / self._step_time) + 1
            self._steps = min(self._steps, begun)
            self.due = self._began + self._steps * self._step_time

    def advance(self) -> Progress:
        """End the steps that are due, and begin the next."""
        now, progress = self.due, Progress([], [])
        if self._decodes:
            self._count += self._steps
        for sequence in [one for one in self._prefilling if one.computed == one.work.prompt_tokens]:
            self._prefilling.remove(sequence)
            sequence.decoding_since = self._count
            progress.first_tokens.append(sequence)
            heapq.heappush(self._decoding, (sequence.last_step, sequence.id, sequence))
        while self._decoding and self._decoding[0][0] <= self._count:
            sequence = heapq.heappop(self._decoding)[2]
            self._end(sequence)
            progress.done.append(sequence)
        self._start(now)
        return progress

    def lost(self, now: float) -> list[tuple[Sequence, int]]:
        """All that it has, each with the tokens it has answered by now, should it die."""
        count = self._count
        if self._decodes and self._steps:
            count += min(self._steps, int((now - self._began) / self._step_time))
        unanswered = [(one, 0) for one in (*self._waiting, *self._prefilling)]
        return unanswered + [
            (one, min(last, count) - one.decoding_since + 1)
            for last, _, one in sorted(self._decoding)
        ]

    def _start(self, now: float) -> None:
        decoding = len(self._decoding)
        chunked = self.machine.chunked
        tokens = self._prefill(self.machine.step_tokens - decoding if chunked else None)
        self._decodes = bool(decoding) and (chunked or not tokens)
        self._began = now
        if tokens:
            self._steps = 1
        elif decoding:
            self._steps = self._decoding[0][0] - self._count
        else:
            self._steps, self.due = 0, math.inf
            return
        self._step_time = self.machine.step + tokens / self.machine.prefill
        if self._decodes:
            self._step_time += self.machine.per_sequence * decoding
        self.due = now + self._steps * self._step_time

    def _prefill(self, budget: int | None) -> int:
        """Give the next step its tokens of prompts, at most `budget`; how many they are.

        Without a budget they are whole prompts: as many as a step takes, but at least one.
        """
        tokens = 0
        limit = self.machine.step_tokens if budget is None else budget
        for sequence in self._prefilling:
            tokens += self._compute(sequence, limit - tokens)
        while self._waiting and tokens < limit and self.running < self.machine.max_sequences:
            sequence = self._waiting[0]
            lease = self.cache.take(sequence.work)
            if lease is None:
                break
            self._waiting.popleft()
            sequence.lease = lease
            sequence.computed = lease.hit_tokens
            self._prefilling.append(sequence)
            room = sequence.work.prompt_tokens if budget is None else limit - tokens
            tokens += self._compute(sequence, room)
        return tokens

    def _compute(self, sequence: Sequence, room: int) -> int:
        tokens = min(room, sequence.work.prompt_tokens - sequence.computed)
        sequence.computed += tokens
        if self.machine.prefix_caching:
            assert sequence.lease is not None
            self.cache.computed(sequence.lease, sequence.computed)
        return tokens

    def _end(self, sequence: Sequence) -> None:
        assert sequence.lease is not None
        if self.machine.prefix_caching:
            # The last token was sampled, and never read.
            self.cache.computed(sequence.lease, sequence.work.tokens - 1)
        self.cache.give_back(sequence.lease)
