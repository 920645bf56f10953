"""Tokens and the text they stand for, as llama.cpp has them.

Everything here may be called from several threads: it only reads, as llama.cpp's own tokenizer
does. It holds the model, so that the vocabulary is there as long as anybody asks for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

from backends.llama_cpp.model import Model


class Vocabulary:
    """The tokens of one model."""

    def __init__(self, model: Model) -> None:
        self._model = model
        self._library = library = model.library
        self._vocab = vocab = model.vocab
        self.size = int(library.llama_vocab_n_tokens(vocab))
        """Token ids go from 0 to one less."""
        hidden = library.LLAMA_TOKEN_ATTR_CONTROL | library.LLAMA_TOKEN_ATTR_UNKNOWN
        # Text is put together here: llama.cpp's own function for it changes the spaces of some
        # vocabularies, costs ten times as much, and is called twice a token.
        self._pieces = [self._native_piece(token) for token in range(self.size)]
        self.ends = frozenset(
            token for token in range(self.size) if library.llama_vocab_is_eog(vocab, token)
        )
        """The tokens that end a sequence."""
        self.special = self._spellings(hidden)
        """How those tokens are spelled that are no text, by their ids."""
        self._texts = [
            b"" if token in self.special else piece for token, piece in enumerate(self._pieces)
        ]
        added = self._spellings(hidden | library.LLAMA_TOKEN_ATTR_USER_DEFINED)
        self.named = frozenset(added.values())
        """The spelling of all tokens that were added to the vocabulary, text or not."""
        bos = int(library.llama_vocab_bos(vocab))
        self.bos_text, self.eos_text = map(self.spelled, (bos, library.llama_vocab_eos(vocab)))
        self._first = bos if library.llama_vocab_get_add_bos(vocab) and bos >= 0 else None

    def encode(self, text: str, *, whole: bool = False) -> list[int]:
        """Token ids; special tokens are recognised in the text.

        The token that the model wants in front stands there once, also where the text has it. A
        `whole` text gets the tokens at its end, too. Raises `UnicodeEncodeError` for half of a
        surrogate pair.
        """
        tokens = self._tokenize(text.encode(), whole=whole)
        if whole:
            return tokens
        if self._first is not None and (not tokens or tokens[0] != self._first):
            tokens.insert(0, self._first)
        return tokens

    def decode(self, tokens: Sequence[int], *, special: bool) -> str:
        """Text; bytes that are no UTF-8 as U+FFFD. `special` tokens are spelled, or left out."""
        table = self._pieces if special else self._texts
        return b"".join([table[token] for token in tokens]).decode(errors="replace")

    def piece(self, token: int) -> bytes:
        """What one token stands for, also where that is a special token or half a character."""
        return self._pieces[token]

    def spelled(self, token: int) -> str:
        """The same as text; empty for llama.cpp's -1, which stands for no token."""
        return self.piece(token).decode(errors="replace") if token >= 0 else ""

    def _native_piece(self, token: int) -> bytes:
        size = 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = int(
                self._library.llama_token_to_piece(self._vocab, token, buffer, size, 0, True)
            )
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def _spellings(self, kinds: int) -> dict[int, str]:
        """Of the tokens that are of one of `kinds`, by their ids."""
        kind_of = self._library.llama_vocab_get_attr
        return {
            token: self.spelled(token)
            for token in range(self.size)
            if kind_of(self._vocab, token) & kinds
        }

    def _tokenize(self, raw: bytes, *, whole: bool) -> list[int]:
        room = len(raw) + 2  # a token is at least a byte, but for a space put in front
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = self._library.llama_tokenize(
                self._vocab, raw, len(raw), tokens, room, whole, True
            )
            if count >= 0:
                return tokens[:count]
            room = -count
