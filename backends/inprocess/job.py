"""What is asked of an engine in this process: a job, and its rows, one for each sequence.

Rule of this file: it holds, and decides nothing. `over` is guarded by the engine's lock; the rest
of a job belongs to the engine's thread from `submit` on.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from backends.base import BackendError
from backends.inprocess.runtime import SequenceSpec
from backends.inprocess.text import Delta, SequenceText

Piece = Sequence[Delta] | BackendError
Sink = Callable[[Piece], None]
"""Takes what a job has got, in the event loop's thread. An error is the last it gets."""


class Row:
    """One sequence: a choice of a job's answer."""

    __slots__ = ("fault", "job", "kept", "spec", "text")

    def __init__(self, job: Job, spec: SequenceSpec, text: SequenceText) -> None:
        self.job = job
        self.spec = spec
        self.text = text
        self.kept: list[Delta] = []
        """Deltas to be delivered with the last one, where the job is no stream."""
        self.fault: Exception | None = None

    def let_go_of_pictures(self) -> None:
        """The runtime has them, and lets go of them once it has looked at them."""
        if self.spec.vision is not None:
            self.spec = msgspec.structs.replace(self.spec, vision=None)

    def failed(self, error: Exception) -> None:
        """Remember why this row cannot go on."""
        self.fault = error


class Job:
    """One request: its rows, and where its answer goes.

    `priority` is vLLM's: among those that wait, lower goes first.
    """

    __slots__ = ("_cached", "over", "priority", "rows", "sink", "stream", "unfinished")

    def __init__(self, sink: Sink, *, stream: bool, priority: int = 0) -> None:
        self.sink = sink
        self.stream = stream
        self.priority = priority
        self.rows: list[Row] = []
        """Until it is submitted. From then on its rows know it, and it knows none of them: so what
        they hold, pictures too, is gone with the last use of it, and no garbage collector's."""
        self._cached: dict[int, int] = {}
        self.unfinished = 0
        self.over = False
        """Nothing more is wanted of it, or nothing more comes."""

    def note_cached(self, prompt: Sequence[int], tokens: int) -> None:
        """So many `tokens` of a row's `prompt` were not computed again."""
        key = id(prompt)
        self._cached[key] = min(tokens, self._cached.get(key, tokens))

    def cached_tokens(self) -> int:
        """Tokens of its prompts that were not computed again for any of its rows.

        A prompt is one object for all its choices, and counts once.
        """
        return sum(list(self._cached.values()))
