"""How the next token is chosen, as MLX operations. Runs in the engine's thread only.

The order is vLLM's and Hugging Face's: penalties and bias, temperature, top-k, top-p, min-p.
mlx-lm's own sampler cuts before it applies the temperature, takes no seed, and compiles its
parts at first use, which stalls the batch; hence these.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable, Sequence

import mlx.core as mx

from backends.inprocess.params import Sampling

Sampler = Callable[[mx.array], mx.array]
"""Log-probabilities [rows, vocabulary] to token ids [rows]."""

LogitsProcessor = Callable[[mx.array, mx.array], mx.array]
"""All tokens so far, logits [1, vocabulary]; gives the logits to use."""

_MAX_SHARED = 64


def greedy(logprobs: mx.array) -> mx.array:
    """The likeliest token of each row."""
    return mx.argmax(logprobs, axis=-1)


class RandomSampler:
    """Draws from what temperature and cuts leave, with a random state of its own."""

    def __init__(self, sampling: Sampling, seed: int) -> None:
        self._sampling = sampling
        self._key = mx.random.key(seed % 2**64)

    def __call__(self, logprobs: mx.array) -> mx.array:
        """One draw per row."""
        self._key, key = mx.random.split(self._key)
        return mx.random.categorical(_cut(logprobs, self._sampling), key=key)


class Samplers:
    """Hands out samplers. Rows that need no seed share one, so that MLX can draw for all at once.

    `entropy` gives a random 64-bit number.
    """

    def __init__(self, entropy: Callable[[], int]) -> None:
        self._entropy = entropy
        self._shared: OrderedDict[tuple[float, int, float, float], RandomSampler] = OrderedDict()

    def get(self, sampling: Sampling) -> Sampler:
        """The sampler for one sequence."""
        if sampling.greedy:
            return greedy
        if sampling.seed is not None:
            return RandomSampler(sampling, sampling.seed)
        key = (sampling.temperature, sampling.top_k, sampling.top_p, sampling.min_p)
        if key not in self._shared:
            self._shared[key] = RandomSampler(sampling, self._entropy())
            if len(self._shared) > _MAX_SHARED:
                self._shared.popitem(last=False)
        return self._shared[key]


def logits_processors(sampling: Sampling, prompt_tokens: int) -> list[LogitsProcessor]:
    """What changes the logits of one sequence before sampling; usually nothing."""
    processors: list[LogitsProcessor] = []
    if sampling.repetition_penalty != 1:
        processors.append(_repetition(sampling.repetition_penalty))
    if sampling.presence_penalty or sampling.frequency_penalty:
        processors.append(
            _occurrence(sampling.presence_penalty, sampling.frequency_penalty, prompt_tokens)
        )
    if sampling.logit_bias:
        processors.append(_bias(sampling.logit_bias))
    return processors


def _cut(logprobs: mx.array, sampling: Sampling) -> mx.array:
    logits = logprobs.astype(mx.float32) / sampling.temperature
    if 0 < sampling.top_k < logits.shape[-1]:
        least = mx.sort(logits, axis=-1)[..., -sampling.top_k, None]
        logits = mx.where(logits < least, -math.inf, logits)
    if sampling.top_p < 1:
        ascending = mx.sort(logits, axis=-1)
        mass = mx.cumsum(mx.softmax(ascending, axis=-1), axis=-1)
        dropped = (mass <= 1 - sampling.top_p).sum(axis=-1, keepdims=True)
        dropped = mx.minimum(dropped, logits.shape[-1] - 1)
        least = mx.take_along_axis(ascending, dropped, axis=-1)
        logits = mx.where(logits < least, -math.inf, logits)
    if sampling.min_p > 0:
        least = mx.max(logits, axis=-1, keepdims=True) + math.log(sampling.min_p)
        logits = mx.where(logits < least, -math.inf, logits)
    return logits


def _repetition(penalty: float) -> LogitsProcessor:
    """CTRL's penalty (Keskar et al. 2019) on every token of the prompt and the answer."""

    def process(tokens: mx.array, logits: mx.array) -> mx.array:
        seen = mx.zeros(logits.shape[-1]).at[tokens].add(1) > 0
        return mx.where(seen, mx.where(logits > 0, logits / penalty, logits * penalty), logits)

    return process


def _occurrence(presence: float, frequency: float, prompt_tokens: int) -> LogitsProcessor:
    """OpenAI's penalties, which count the answer only."""

    def process(tokens: mx.array, logits: mx.array) -> mx.array:
        counts = mx.zeros(logits.shape[-1]).at[tokens[prompt_tokens:]].add(1)
        return logits - frequency * counts - presence * (counts > 0)

    def process_answer(tokens: mx.array, logits: mx.array) -> mx.array:
        return process(tokens, logits) if tokens.size > prompt_tokens else logits

    return process_answer


def _bias(bias: Sequence[tuple[int, float]]) -> LogitsProcessor:
    at = mx.array([token for token, _ in bias])
    by = mx.array([value for _, value in bias])

    def process(tokens: mx.array, logits: mx.array) -> mx.array:  # noqa: ARG001 — MLX's signature
        return logits.at[:, at].add(by)

    return process
