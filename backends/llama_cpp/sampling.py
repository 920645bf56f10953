"""How the next token is chosen: a chain of llama.cpp's samplers for each sequence.

The order is the one of `Sampling`, and MLX's here: penalties and bias, temperature, top-k, top-p,
min-p. llama.cpp does not check what it is given, and its sorts may leave their array where numbers
are none: what goes into a chain is bounded here, and logits are looked at before they are sampled.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

from backends.inprocess.params import Sampling
from backends.llama_cpp.model import Model

_SEEDS = 2**32 - 1
"""llama.cpp takes 32 bits, and the largest number for "any"."""
_HUGE = 1e6
"""Beyond it a factor or a bias changes nothing any more, but may overflow to no number."""


def plain(sampling: Sampling) -> bool:
    """Whether the likeliest token is wanted, of logits as they are: that needs no chain."""
    return (
        sampling.greedy
        and not sampling.logit_bias
        and not (sampling.presence_penalty or sampling.frequency_penalty)
        and sampling.repetition_penalty == 1
    )


class SamplerChain:
    """The samplers of one sequence, which has `prompt` behind it.

    `seed` is used where the request has none. Must be closed.
    """

    def __init__(
        self, model: Model, sampling: Sampling, prompt: Sequence[int], *, room: int, seed: int
    ) -> None:
        """`room` is how many tokens the sequence may come to: all of them are looked back at."""
        self._library = library = model.library
        self._vocabulary = library.llama_vocab_n_tokens(model.vocab)
        params = library.llama_sampler_chain_default_params()
        params.no_perf = True
        self._chain = library.llama_sampler_chain_init(params)
        try:
            self._fill(sampling, prompt, room, seed)
        except BaseException:
            self.close()
            raise

    def _fill(self, sampling: Sampling, prompt: Sequence[int], room: int, seed: int) -> None:
        library = self._library
        if sampling.repetition_penalty != 1:
            # It looks at the prompt too, and the other two do not: hence two samplers.
            repetition = self._penalties(room, repeat=sampling.repetition_penalty)
            self._add(repetition)
            for token in prompt:
                library.llama_sampler_accept(repetition, token)
        if sampling.frequency_penalty or sampling.presence_penalty:
            frequency, presence = sampling.frequency_penalty, sampling.presence_penalty
            self._add(self._penalties(room, frequency=frequency, presence=presence))
        if sampling.logit_bias:
            self._add(self._bias(sampling.logit_bias))
        self._add_choice(sampling, seed)

    def sample(self, context: Any, index: int) -> int:
        """The next token, from the logits of the batch's `index`-th token."""
        token: int = self._library.llama_sampler_sample(self._chain, context, index)
        return token

    def close(self) -> None:
        """Free the samplers."""
        self._library.llama_sampler_free(self._chain)

    def _add_choice(self, sampling: Sampling, seed: int) -> None:
        library = self._library
        if sampling.greedy:
            self._add(library.llama_sampler_init_greedy())
            return
        self._add(library.llama_sampler_init_temp(min(sampling.temperature, _HUGE)))
        if 0 < sampling.top_k < self._vocabulary:
            self._add(library.llama_sampler_init_top_k(sampling.top_k))
        if sampling.top_p < 1:
            self._add(library.llama_sampler_init_top_p(sampling.top_p, 1))
        if sampling.min_p > 0:
            self._add(library.llama_sampler_init_min_p(sampling.min_p, 1))
        wanted = seed if sampling.seed is None else sampling.seed
        self._add(library.llama_sampler_init_dist(wanted % _SEEDS))

    def _penalties(
        self, room: int, *, repeat: float = 1.0, frequency: float = 0.0, presence: float = 0.0
    ) -> Any:
        repeat = min(max(repeat, 1 / _HUGE), _HUGE)
        return self._library.llama_sampler_init_penalties(
            self._vocabulary, room, repeat, frequency, presence
        )

    def _bias(self, bias: Sequence[tuple[int, float]]) -> Any:
        entry = self._library.llama_logit_bias
        entries = (entry * len(bias))(
            *(entry(token, min(max(value, -_HUGE), _HUGE)) for token, value in bias)
        )
        pointer = ctypes.cast(entries, ctypes.POINTER(entry))
        return self._library.llama_sampler_init_logit_bias(self._vocabulary, len(bias), pointer)

    def _add(self, sampler: Any) -> None:
        self._library.llama_sampler_chain_add(self._chain, sampler)
