"""llguidance's grammars over the vocabulary of a GGUF model, and what they allow of logits.

llama.cpp has grammars of its own. They are not used: they end the whole process where a token
breaks them, and the binding's converter from JSON Schema lets raw line breaks into strings and
passes over most keywords. With llguidance a schema means the same for every engine here.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLTokenizer

from backends.inprocess.grammar import Grammars, Matcher
from backends.llama_cpp.model import Model
from backends.llama_cpp.vocabulary import Vocabulary


def grammars(model: Model, vocabulary: Vocabulary) -> Grammars:
    """For the tokens of `model`, which whoever uses it has to hold: it calls its tokenizer.

    What llguidance's own `llamacpp.lltokenizer_from_vocab` does, with all end tokens.
    """
    tokens = [vocabulary.piece(token) for token in range(vocabulary.size)]
    for token in vocabulary.special:
        # So marked, they are matched by their ids and never as text.
        tokens[token] = b"\xff" + tokens[token]
    tokenize = model.library.llama_cpp._lib.llama_tokenize
    make: Any = LLTokenizer  # its type stub leaves this way of making one out
    tokenizer = make.from_llamacpp(
        tokens=tokens,
        vocab_ptr=model.vocab,
        tokenize_fptr=ctypes.cast(tokenize, ctypes.c_void_p).value,
        eos_token=sorted(vocabulary.ends),
        slices=None,
    )
    return Grammars(tokenizer)


def forbid(logits: npt.NDArray[np.float32], matcher: Matcher) -> None:
    """Take from `logits`, [vocabulary], what the sequence's grammar does not allow next."""
    bits = np.zeros(-(-logits.size // 32), dtype=np.uint32)
    if not matcher.allow(bits.ctypes.data, bits.nbytes):
        return
    allowed = np.unpackbits(bits.view(np.uint8), bitorder="little", count=logits.size)
    logits[allowed == 0] = -np.inf
