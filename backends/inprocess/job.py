"""What is asked of an engine in this process: a job, and its rows, one for each sequence.

Rule of this file: it holds, and decides nothing. `over` is guarded by the engine's lock; the rest
of a job belongs to the engine's thread from `submit` on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from backends.base import BackendError
from backends.inprocess.runtime import SequenceSpec
from backends.inprocess.text import Delta, SequenceText

Piece = Sequence[Delta] | BackendError
Sink = Callable[[Piece], None]
"""Takes what a job has got, in the event loop's thread. An error is the last it gets."""


class Row:
    """One sequence: a choice of a job's answer."""

    __slots__ = ("cached", "fault", "job", "kept", "spec", "text")

    def __init__(self, job: Job, spec: SequenceSpec, text: SequenceText) -> None:
        self.job = job
        self.spec = spec
        self.text = text
        self.cached = 0
        """Tokens of its prompt that were not computed again."""
        self.kept: list[Delta] = []
        """Deltas to be delivered with the last one, where the job is no stream."""
        self.fault: Exception | None = None

    def failed(self, error: Exception) -> None:
        """Remember why this row cannot go on."""
        self.fault = error


class Job:
    """One request: its rows, and where its answer goes.

    `priority` is vLLM's: among those that wait, lower goes first.
    """

    __slots__ = ("over", "priority", "rows", "sink", "stream", "unfinished")

    def __init__(self, sink: Sink, *, stream: bool, priority: int = 0) -> None:
        self.sink = sink
        self.stream = stream
        self.priority = priority
        self.rows: list[Row] = []
        self.unfinished = 0
        self.over = False
        """Nothing more is wanted of it, or nothing more comes."""

    def cached_tokens(self) -> int:
        """Tokens of its prompts that were not computed again for any of its rows.

        A prompt is one object for all its choices, and counts once.
        """
        least: dict[int, int] = {}
        for row in self.rows:
            prompt = id(row.spec.prompt)
            least[prompt] = min(row.cached, least.get(prompt, row.cached))
        return sum(least.values())
