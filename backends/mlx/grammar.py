"""What grammars allow, as MLX arrays. Engine thread only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from typing import Any

import mlx.core as mx
import numpy as np
from llguidance import LLTokenizer

from backends.inprocess.grammar import Grammars, Matcher

_ALL = 0xFFFFFFFF


def grammars(tokenizer: Any, *, vocabulary: int, ends: Sequence[int]) -> Grammars:
    """For one of Hugging Face's Rust tokenizers.

    `vocabulary` is how many logits the model has; `ends` are its end-of-sequence tokens.
    """
    plain = copy(tokenizer)
    plain.no_padding()
    plain.no_truncation()
    size = max(vocabulary, tokenizer.get_vocab_size(with_added_tokens=True))
    return Grammars(LLTokenizer(plain.to_str(), n_vocab=size, eos_token=list(ends)))


class GrammarMask:
    """What the grammars of a batch allow, as one array.

    `matchers` are those of the rows that have one, by their place among `rows`; the `fresh` ones
    have not begun. `vocabulary` is how many logits a row has.
    """

    def __init__(
        self, matchers: Mapping[int, Matcher], fresh: set[int], rows: int, vocabulary: int
    ) -> None:
        self._matchers = matchers
        self._fresh = fresh
        self._vocabulary = vocabulary
        self._bits = np.zeros((rows, -(-vocabulary // 32)), dtype=np.uint32)
        self._bits[:] = _ALL

    def __call__(self, inputs: Sequence[int]) -> mx.array:
        """Which tokens may follow `inputs`, one for each row: bools, [rows, vocabulary]."""
        width = self._bits.shape[1] * 4
        address = self._bits.ctypes.data
        for row, matcher in self._matchers.items():
            if row not in self._fresh:
                matcher.consume(inputs[row])
            if not matcher.allow(address + row * width, width):
                self._bits[row] = _ALL
        self._fresh = set()
        bits = np.unpackbits(self._bits.view(np.uint8), axis=1, bitorder="little")
        return mx.array(bits[:, : self._vocabulary].view(np.bool_))
