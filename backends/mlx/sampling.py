"""How the next token of every row is chosen, in one go, as MLX operations. Engine thread only.

Rules of this file:

- Whatever the rows ask for, sampling is one operation over all of them; an operation that no row
  asks for is not done.
- A row gets the same tokens in any company: what is done for it never depends on its neighbours.
- What a row needs to know of its past is worked out of its tokens when the batch changes, so rows
  may come and go without anybody keeping books.

The order is vLLM's and Hugging Face's: penalties and bias, constraint, temperature, top-k, top-p,
min-p. mlx-lm's own samplers cut before the temperature, take no seed, and are called row by row
unless all rows share one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from operator import index
from typing import Any

import mlx.core as mx
import numpy as np

from backends.base import Adapter
from backends.inprocess.grammar import Matcher
from backends.inprocess.params import Sampling
from backends.mlx.grammar import GrammarMask
from backends.mlx.logprobs import RowLogprobs, TopLogprobs
from backends.mlx.vision.look import Look

_NARROW = 128
"""Cuts to so few tokens are found without sorting the vocabulary, which on a CPU takes 12 ms."""
_NEXT_KEY = (0, 1)
_MASK64 = 2**64 - 1


class Row:
    """What one sequence asks of sampling."""

    __slots__ = (
        "adapter",
        "bias",
        "key",
        "look",
        "matcher",
        "prompt_tokens",
        "sampling",
        "top_logprobs",
    )

    def __init__(
        self,
        sampling: Sampling,
        *,
        seed: int = 0,
        prompt_tokens: int = 0,
        matcher: Matcher | None = None,
        top_logprobs: int | None = None,
        adapter: Adapter | None = None,
        look: Look | None = None,
    ) -> None:
        """`seed` decides where `sampling` has none; `prompt_tokens` is the length of the prompt.

        `adapter` and `look`, which is its images, are no business of sampling: they travel with
        the row.

        What cannot be sampled raises here, where it concerns this row alone.
        """
        self.sampling = sampling
        self.bias = [(index(token), float(value)) for token, value in sampling.logit_bias]
        self.key = stream_key(seed if sampling.seed is None else sampling.seed)
        self.prompt_tokens = prompt_tokens
        self.matcher = matcher
        self.top_logprobs = top_logprobs
        self.adapter = adapter
        self.look = look

    @property
    def ready(self) -> bool:
        """Whether its prompt can be read."""
        return self.look is None or self.look.ready

    def prompt_is_read(self) -> None:
        """Let go of what only its prompt was read with."""
        if self.look is not None:
            self.look.forget()


def stream_key(seed: int) -> tuple[int, int]:
    """The key of a seed's first draw; each further draw adds one to the second half.

    Threefry makes unrelated bits of related keys, but the seeds of one request's choices are
    neighbours: mixed first (splitmix64, Steele et al. 2014), their draws do not overlap.
    """
    mixed = (seed + 0x9E3779B97F4A7C15) & _MASK64
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK64
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK64
    mixed ^= mixed >> 31
    return mixed >> 32, mixed & 0xFFFFFFFF


class BatchSampler:
    """Chooses the next token of each row, until the batch changes.

    `tokens` are, for each row, those that the model has read so far: the prompt but for its last
    token when a row is new. `vocabulary` is how many logits a row has.
    """

    def __init__(
        self, rows: Sequence[Row], tokens: Sequence[Sequence[int]], vocabulary: int
    ) -> None:
        read = [len(seen) for seen in tokens]
        self._drawer = _Drawer(
            rows, [max(0, n + 1 - r.prompt_tokens) for n, r in zip(read, rows, strict=True)]
        )
        self._penalties = _penalties(rows, tokens, vocabulary)
        self._bias = _bias(rows, vocabulary)
        matchers = {at: row.matcher for at, row in enumerate(rows) if row.matcher is not None}
        fresh = {at for at in matchers if read[at] < rows[at].prompt_tokens}
        self._mask = GrammarMask(matchers, fresh, len(rows), vocabulary) if matchers else None
        wanted = {at: n for at, row in enumerate(rows) if (n := row.top_logprobs) is not None}
        self._logprobs = TopLogprobs(wanted, len(rows)) if wanted else None

    def __call__(
        self, logits: mx.array, inputs: mx.array
    ) -> tuple[mx.array, list[RowLogprobs | None]]:
        """The next tokens, [rows], and for each row what tells its log-probabilities, or None.

        `logits` is [rows, vocabulary]; `inputs`, [rows], are the tokens that they follow.
        """
        raw = logits
        if self._penalties is not None:
            logits = self._penalties(logits, inputs)
        if self._bias is not None:
            logits = logits + self._bias
        if self._mask is not None:
            begin(logits)  # the model computes while the grammars are asked
            logits = mx.where(self._mask(whole_numbers(inputs)), logits, -math.inf)
        tokens = self._drawer(logits)
        if self._logprobs is None:
            return tokens, [None] * tokens.shape[0]
        return tokens, self._logprobs(raw, tokens)


def whole_numbers(array: mx.array) -> list[int]:
    """A list of integers, [rows]; waits until they are computed."""
    numbers: Any = array.tolist()
    return list(numbers)


begin: Callable[..., None] = mx.async_eval
"""Begins to compute arrays, and does not wait. MLX has no types for it."""


class _Drawer:
    """Draws from what temperature and cuts leave. `drawn` is how often each row has drawn."""

    def __init__(self, rows: Sequence[Row], drawn: Sequence[int]) -> None:
        samplings = [row.sampling for row in rows]
        greedy = [sampling.greedy for sampling in samplings]
        self._all_greedy = all(greedy)
        if self._all_greedy:
            return
        self._greedy = mx.array(greedy) if any(greedy) else None
        self._temperature = _column([1.0 if s.greedy else s.temperature for s in samplings])
        keys = [
            (high, (low + n) & 0xFFFFFFFF)
            for (high, low), n in zip((row.key for row in rows), drawn, strict=True)
        ]
        self._keys = mx.array(np.array(keys, dtype=np.uint32))
        self._next_key = mx.array(_NEXT_KEY, dtype=mx.uint32)
        self._cut = _cut([Sampling() if s.greedy else s for s in samplings])

    def __call__(self, logits: mx.array) -> mx.array:
        """One token per row."""
        if self._all_greedy:
            return mx.argmax(logits, axis=-1)
        warm = logits.astype(mx.float32) / self._temperature
        if self._cut is not None:
            warm = mx.where(warm < self._cut(warm), -math.inf, warm)
        keys, self._keys = self._keys, self._keys + self._next_key
        drawn = _draw_rows(warm, keys)
        if self._greedy is None:
            return drawn
        return mx.where(self._greedy, mx.argmax(logits, axis=-1), drawn)


def _draw(logits: mx.array, key: mx.array) -> mx.array:
    return mx.random.categorical(logits, key=key)


_draw_rows: Callable[[mx.array, mx.array], mx.array] = mx.vmap(_draw)

Least = Callable[[mx.array], mx.array]
"""Logits [rows, vocabulary] to the least that each row keeps, [rows, 1]."""


def _cut(samplings: Sequence[Sampling]) -> Least | None:
    """What finds the least logit that top-k, top-p and min-p leave; None where all are kept."""
    parts: list[Least] = []
    narrow = [at for at, s in enumerate(samplings) if 0 < s.top_k <= _NARROW]
    wide = [
        at for at, s in enumerate(samplings) if s.top_k > _NARROW or (not s.top_k and s.top_p < 1)
    ]
    for group, width in ((narrow, _NARROW), (wide, None)):
        if group:
            parts.append(_TopCut([samplings[at] for at in group], group, len(samplings), width))
    if any(s.min_p > 0 for s in samplings):
        floor = _column([math.log(s.min_p) if s.min_p > 0 else -math.inf for s in samplings])
        parts.append(lambda logits: mx.max(logits, axis=-1, keepdims=True) + floor)
    if not parts:
        return None

    def least(logits: mx.array) -> mx.array:
        found = parts[0](logits)
        for part in parts[1:]:
            found = mx.maximum(found, part(logits))
        return found

    return least


class _TopCut:
    """Top-k and then top-p, of the rows `at` among `rows`; the others keep everything.

    Only the `width` likeliest tokens are looked at, all where it is None. It may not depend on the
    rows: sums over another width round otherwise.
    """

    def __init__(
        self, samplings: Sequence[Sampling], at: Sequence[int], rows: int, width: int | None
    ) -> None:
        self._width = width
        self._all = len(at) == rows
        self._at = mx.array(list(at))
        back = np.full(rows, len(at), dtype=np.int32)
        back[list(at)] = np.arange(len(at))
        self._back = mx.array(back)
        self._top_k = mx.array([[s.top_k or 2**30] for s in samplings])
        # No mass is less than -1: a top_p of 1 drops nothing, however sums round.
        self._dropped_mass = _column([1 - s.top_p if s.top_p < 1 else -1.0 for s in samplings])

    def __call__(self, logits: mx.array) -> mx.array:
        mine = logits if self._all else logits[self._at]
        if self._width is not None and self._width < mine.shape[-1]:
            mine = mx.topk(mine, self._width, axis=-1)
        ascending = mx.sort(mine, axis=-1)
        size = ascending.shape[-1]
        beyond_k = mx.maximum(size - self._top_k, 0)
        kept = mx.where(mx.arange(size) < beyond_k, -math.inf, ascending)
        mass = mx.cumsum(mx.softmax(kept, axis=-1), axis=-1)
        dropped = (mass <= self._dropped_mass).sum(axis=-1, keepdims=True)
        dropped = mx.minimum(mx.maximum(dropped, beyond_k), size - 1)
        least = mx.take_along_axis(ascending, dropped, axis=-1)
        if self._all:
            return least
        return mx.concatenate([least, mx.array([[-math.inf]])])[self._back]


class _Penalties:
    """Counts of tokens, and what they cost. `counts` are of each row's answer, `seen` of all."""

    def __init__(
        self, rows: Sequence[Row], fresh: Sequence[bool], answered: mx.array, seen: mx.array
    ) -> None:
        samplings = [row.sampling for row in rows]
        self._rows = mx.arange(len(rows))
        self._answered = answered
        self._seen = seen
        self._frequency = _column([s.frequency_penalty for s in samplings])
        self._presence = _column([s.presence_penalty for s in samplings])
        repetition = [s.repetition_penalty for s in samplings]
        self._repetition = _column(repetition) if any(p != 1 for p in repetition) else None
        self._counted: mx.array | None = mx.array([0.0 if new else 1.0 for new in fresh])
        """1 where the next input belongs to the answer; None once all do."""

    def __call__(self, logits: mx.array, inputs: mx.array) -> mx.array:
        logits = logits.astype(mx.float32)
        by = 1.0 if self._counted is None else self._counted
        self._counted = None
        self._answered = self._answered.at[self._rows, inputs].add(by)
        if self._repetition is not None:
            self._seen = self._seen.at[self._rows, inputs].add(1.0)
            hit = mx.where(logits > 0, logits / self._repetition, logits * self._repetition)
            logits = mx.where(self._seen > 0, hit, logits)
        logits = logits - self._frequency * self._answered
        return logits - self._presence * (self._answered > 0)


def _penalties(
    rows: Sequence[Row], tokens: Sequence[Sequence[int]], vocabulary: int
) -> _Penalties | None:
    """OpenAI's penalties, which count the answer only, and CTRL's (Keskar et al. 2019) on all."""
    if not any(row.sampling.penalized for row in rows):
        return None
    answered = np.zeros((len(rows), vocabulary), dtype=np.float32)
    seen = np.zeros_like(answered)
    for at, (row, read) in enumerate(zip(rows, tokens, strict=True)):
        if row.sampling.penalized:
            seen[at] = np.bincount(read, minlength=vocabulary)[:vocabulary]
            answer = read[row.prompt_tokens :]
            answered[at] = np.bincount(answer, minlength=vocabulary)[:vocabulary]
    fresh = [len(read) < row.prompt_tokens for row, read in zip(rows, tokens, strict=True)]
    return _Penalties(rows, fresh, mx.array(answered), mx.array(seen))


def _bias(rows: Sequence[Row], vocabulary: int) -> mx.array | None:
    """What is added to each logit; None where nothing is."""
    if not any(row.bias for row in rows):
        return None
    bias = np.zeros((len(rows), vocabulary), dtype=np.float32)
    for at, row in enumerate(rows):
        for token, value in row.bias:
            if token < vocabulary:
                bias[at, token] = value
    return mx.array(bias)


def _column(values: Sequence[float]) -> mx.array:
    return mx.array(list(values), dtype=mx.float32)[:, None]
