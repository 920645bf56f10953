"""Log-probabilities of what was sampled, for the rows that want them. Engine thread only.

They are computed with the step, and become Python numbers once, when the first row is read.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import mlx.core as mx

from backends.inprocess.logprobs import TokenLogprobs


class StepLogprobs:
    """Those of one step, for some rows; arrays until somebody reads them."""

    def __init__(self, tokens: mx.array, chosen: mx.array, ids: mx.array, values: mx.array) -> None:
        """`tokens` and `chosen` are [rows, 1]; `ids` and `values` [rows, most], likeliest first."""
        self.arrays = (tokens, chosen, ids, values)
        self._read: list[tuple[int, float, list[tuple[int, float]]]] | None = None

    def row(self, at: int, top: int) -> TokenLogprobs:
        """Of one row, with its `top` likeliest tokens."""
        if self._read is None:
            columns: list[Any] = [array.tolist() for array in self.arrays]
            self._read = [
                (token, logprob, list(zip(ids, values, strict=True)))
                for (token,), (logprob,), ids, values in zip(*columns, strict=True)
            ]
        token, logprob, likeliest = self._read[at]
        return TokenLogprobs(token, logprob, tuple(likeliest[:top]))


class RowLogprobs:
    """One row of a step."""

    __slots__ = ("_at", "_top", "step")

    def __init__(self, step: StepLogprobs, at: int, top: int) -> None:
        self.step = step
        self._at = at
        self._top = top

    def read(self) -> TokenLogprobs:
        """As numbers."""
        return self.step.row(self._at, self._top)


class TopLogprobs:
    """Computes them, of `rows` rows for those that are `wanted`: which, and how many tokens."""

    def __init__(self, wanted: Mapping[int, int], rows: int) -> None:
        self._wanted = dict(wanted)
        self._rows = rows
        self._most = max(wanted.values())
        self._at = mx.array(list(wanted)) if len(wanted) < rows else None

    def __call__(self, logits: mx.array, tokens: mx.array) -> list[RowLogprobs | None]:
        """For each row; `logits` are the model's own, [rows, vocabulary], `tokens` [rows]."""
        if self._at is not None:
            logits, tokens = logits[self._at], tokens[self._at]
        logits = logits.astype(mx.float32)
        logprobs = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        tokens = tokens[:, None]
        ids = _likeliest(logprobs, min(self._most, logits.shape[-1]))
        values = mx.take_along_axis(logprobs, ids, axis=-1)
        chosen = mx.take_along_axis(logprobs, tokens, axis=-1)
        step = StepLogprobs(tokens, chosen, ids, values)
        out: list[RowLogprobs | None] = [None] * self._rows
        for index, (at, top) in enumerate(self._wanted.items()):
            out[at] = RowLogprobs(step, index, top)
        return out


def _likeliest(logprobs: mx.array, most: int) -> mx.array:
    """The ids of the `most` likeliest tokens, likeliest first, [rows, most]."""
    if most == 0:
        return mx.zeros((logprobs.shape[0], 0), dtype=mx.uint32)
    if most < logprobs.shape[-1]:
        ids = mx.argpartition(-logprobs, most - 1, axis=-1)[:, :most]
    else:
        ids = mx.argsort(-logprobs, axis=-1)
    order = mx.argsort(-mx.take_along_axis(logprobs, ids, axis=-1), axis=-1)
    return mx.take_along_axis(ids, order, axis=-1)
