"""The tokens of one call of llama.cpp: a `llama_batch` that is filled again and again."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any


class Batch:
    """Room for `size` tokens. Must be closed."""

    def __init__(self, library: Any, size: int) -> None:
        self._library = library
        self.native = library.llama_batch_init(size, 0, 1)
        """To be handed to `llama_decode`."""
        native = self.native
        # As arrays, which check what is written where; the fields themselves are bare pointers.
        self._token = _array(native.token, ctypes.c_int32, size)
        self._position = _array(native.pos, ctypes.c_int32, size)
        self._wanted = _array(native.logits, ctypes.c_int8, size)
        self._sequence = [_array(native.seq_id[at], ctypes.c_int32, 1) for at in range(size)]
        counts = _array(native.n_seq_id, ctypes.c_int32, size)
        for at in range(size):
            counts[at] = 1

    @property
    def count(self) -> int:
        """How many tokens are in it."""
        return int(self.native.n_tokens)

    def clear(self) -> None:
        """Take everything out."""
        self.native.n_tokens = 0

    def add(self, token: int, position: int, sequence: int, *, wanted: bool) -> int:
        """Put a token in; gives its place. `wanted` says that its logits are asked for."""
        at: int = self.native.n_tokens
        self._token[at] = token
        self._position[at] = position
        self._sequence[at][0] = sequence
        self._wanted[at] = wanted
        self.native.n_tokens = at + 1
        return at

    def add_all(
        self, tokens: Sequence[int], position: int, sequence: int, *, wanted: bool = False
    ) -> None:
        """Put successive tokens in, the first one at `position`."""
        for offset, token in enumerate(tokens):
            self.add(token, position + offset, sequence, wanted=wanted)

    def want_last(self) -> int:
        """Ask for the logits of the token put in last; gives its place."""
        at: int = self.native.n_tokens - 1
        self._wanted[at] = True
        return at

    def close(self) -> None:
        """Free it."""
        self._library.llama_batch_free(self.native)


def _array(pointer: Any, kind: Any, size: int) -> Any:
    return (kind * size).from_address(ctypes.addressof(pointer.contents))
