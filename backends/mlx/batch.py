"""mlx-lm's continuous batch, with our sampling in place of its own. Engine thread only.

mlx-lm calls samplers row by row unless all rows share one, and logits processors always; here one
`BatchSampler` does it for all, and what a row asks for travels as its `sampler` (a `Row`). With it
travel the row's LoRA adapter and its images, of which the model is told before it is called. A row
whose images have not been looked at stands aside. Nothing else is changed: how prompts are read,
and how rows come and go, is mlx-lm's (0.32).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import mlx.core as mx
from mlx_lm.generate import BatchGenerator, GenerationBatch, PromptProcessingBatch

from backends.inprocess.params import Sampling
from backends.mlx.logprobs import RowLogprobs
from backends.mlx.lora import Lora
from backends.mlx.sampling import BatchSampler, Row, begin, whole_numbers

_GREEDY: Any = Row(Sampling(temperature=0.0))


class SampledBatch(BatchGenerator):
    """A `BatchGenerator` whose `samplers` are `Row`s; greedy where none is given.

    A response's `logprobs` is a `RowLogprobs` where the row wants them, else None. `lora` has the
    adapters of `model`.
    """

    def __init__(self, model: Any, lora: Lora, **options: Any) -> None:
        model = _Adapted(model, lora)
        super().__init__(model, sampler=_GREEDY, **options)
        self._prompt_batch = _Prompts.empty(model, _GREEDY, self.prefill_step_size)
        self._generation_batch = _Generation.empty(model, _GREEDY)

    def _next(self) -> Any:
        """A step, without those that cannot be read yet."""
        state: Any = self
        waiting = state._unprocessed_sequences
        aside = [one for one in waiting if not _row_of(one).ready]
        if aside:
            state._unprocessed_sequences = deque(one for one in waiting if _row_of(one).ready)
        try:
            return super()._next()  # type: ignore[no-untyped-call]
        finally:
            state._unprocessed_sequences.extend(aside)


class _Adapted:
    """A model that is called for rows with adapters and images; in all else the model itself."""

    def __init__(self, model: Any, lora: Lora) -> None:
        self._model = model
        self._lora = lora
        self._reading = getattr(model, "reading", None)
        """How one that sees (`backends.mlx.vision.model`) is told of its rows."""

    def __call__(self, tokens: mx.array, cache: list[Any]) -> mx.array:
        logits: mx.array = self._model(tokens, cache=cache)
        return logits

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    @contextmanager
    def rows(self, rows: Sequence[Row], tokens: Sequence[Sequence[int]]) -> Iterator[None]:
        """While this lasts, it is called with `rows`, of which it has read `tokens`."""
        with self._lora.rows([row.adapter for row in rows]):
            if self._reading is None:
                yield
                return
            with self._reading([row.look for row in rows], [len(read) for read in tokens]):
                yield


class _Generation(GenerationBatch):
    """The rows that generate."""

    _sampler: BatchSampler | None = None
    """For the rows that there are now; made at the next step."""

    def extend(self, batch: GenerationBatch) -> None:
        super().extend(batch)  # type: ignore[no-untyped-call]
        self._sampler = None

    def filter(self, keep: list[int]) -> None:
        super().filter(keep)
        self._sampler = None

    def _step(self) -> Any:  # mlx-lm says that log-probabilities are arrays
        """Begin to compute the next tokens, and give those that were begun the last time."""
        state: Any = self  # whose attributes mlx-lm has typed by their first values
        inputs, logprobs = state._next_tokens, state._next_logprobs
        state._current_tokens, state._current_logprobs = inputs, logprobs
        with state.model.rows(state.samplers, self.tokens):
            logits = self.model(inputs[:, None], cache=self.prompt_cache)[:, -1, :]
        if self._sampler is None:
            self._sampler = BatchSampler(state.samplers, self.tokens, logits.shape[-1])
        state._next_tokens, state._next_logprobs = self._sampler(logits, inputs)
        begin(state._next_tokens, *_arrays(state._next_logprobs))
        tokens = whole_numbers(inputs)
        for read, token in zip(self.tokens, tokens, strict=True):
            read.append(token)
        return tokens, logprobs


class _Prompts(PromptProcessingBatch):
    """The rows whose prompts are being read."""

    def prompt(self, tokens: list[list[int]]) -> None:
        """Read so many more `tokens` of each row."""
        state: Any = self
        with state.model.rows(state.samplers, self.tokens):
            super().prompt(tokens)

    def generate(self, tokens: list[list[int]]) -> _Generation:
        """Hand all rows on, with the rest of their prompts."""
        if any(len(rest) > 1 for rest in tokens):
            self.prompt([rest[:-1] for rest in tokens])
        rows: Any = self.samplers
        for row in rows:
            row.prompt_is_read()
        generation = _Generation(
            self.model,
            self.uids,
            mx.array([rest[-1] for rest in tokens]),
            self.prompt_cache,
            self.tokens,
            self.samplers,
            self.fallback_sampler,
            self.logits_processors,
            self.stop_sequences,
            self.max_tokens,
        )
        emptied = _Prompts.empty(self.model, self.fallback_sampler, self.prefill_step_size)
        self.__dict__.update(emptied.__dict__)
        return generation


def _row_of(waiting: Any) -> Row:
    """The row of one that mlx-lm has not begun to read."""
    row: Row = waiting[5]
    return row


def _arrays(logprobs: Sequence[RowLogprobs | None]) -> tuple[mx.array, ...]:
    return next((row.step.arrays for row in logprobs if row is not None), ())
