"""Texts to vectors: the last hidden states of a GGUF model, pooled. Engine thread only.

Rules of this file:

- A context of its own, made when the first text comes: its KV cache is one more sequence's.
- Pooling is done here and not in llama.cpp, which wants a text in one piece for that. So a long
  text is read piece by piece, with the memory of a piece.
"""

from __future__ import annotations

from collections.abc import Generator, Sequence
from typing import Any

import numpy as np

from backends.inprocess.pooling import Pooling, chosen_pooling
from backends.llama_cpp.batch import Batch
from backends.llama_cpp.gguf_header import GgufHeader
from backends.llama_cpp.matrix import Matrix, matrix_at
from backends.llama_cpp.model import Model

_PIECE = 256
"""Tokens read at a time."""
_IN_FILE: dict[int, Pooling] = {2: "cls", 3: "last"}
"""llama.cpp's numbers for them. 0 is none, 1 the mean, 4 a rank, which is no vector."""
RANK = 4


def pooling_of(header: GgufHeader, chosen: str) -> Pooling:
    """`chosen`, or where that is `auto` what the file says, else the mean."""
    return chosen_pooling(chosen, _IN_FILE.get(header.count("pooling_type")))


class Embedder:
    """Makes embeddings. Must be closed."""

    def __init__(self, model: Model, *, context: int, threads: int, pooling: Pooling) -> None:
        self._library = library = model.library
        self._pooling = pooling
        self._causal = model.causal
        # A model that looks forward too has to have the whole text at once.
        self._piece = min(_PIECE, context) if self._causal else context
        self._features = int(library.llama_model_n_embd_out(model.pointer))
        params = library.llama_context_default_params()
        params.n_ctx = context
        params.n_seq_max = 1
        params.n_batch = params.n_ubatch = self._piece
        params.n_threads = params.n_threads_batch = threads
        params.embeddings = True
        if model.header.of_model("pooling_type") is not None:  # else it is none already
            params.pooling_type = library.LLAMA_POOLING_TYPE_NONE
        params.no_perf = True
        self._context = library.llama_init_from_model(model.pointer, params)
        if not self._context:
            raise MemoryError("no memory for a context that makes embeddings")
        self._memory = library.llama_get_memory(self._context)
        self._batch = Batch(library, self._piece)

    def embed_all(
        self, prompts: Sequence[Sequence[int]]
    ) -> Generator[None, None, list[list[float]]]:
        """A vector of length one for each of `prompts`, which fit into the context.

        Yields between two pieces of a long one. Nothing else may be embedded meanwhile.
        """
        vectors = []
        for prompt in prompts:
            vectors.append((yield from self._embed(prompt)))  # noqa: PERF401 — it yields
        return vectors

    def _embed(self, prompt: Sequence[int]) -> Generator[None, None, list[float]]:
        if self._memory:  # models that look forward have none
            self._library.llama_memory_clear(self._memory, False)
        total = np.zeros(self._features)
        for begin in range(0, len(prompt), self._piece):
            if begin:
                yield
            hidden = self._read(prompt[begin : begin + self._piece], begin)
            if self._pooling == "mean":
                total += hidden.sum(axis=0, dtype=np.float64)
            elif self._pooling == "last":
                total = hidden[-1].astype(np.float64)
            elif begin == 0:
                total = hidden[0].astype(np.float64)
        norm = float(np.linalg.norm(total))
        vector: list[float] = (total / (norm or 1.0)).tolist()
        return vector

    def close(self) -> None:
        """Free the context."""
        self._batch.close()
        self._library.llama_free(self._context)

    def _read(self, piece: Sequence[int], position: int) -> Matrix:
        """The last hidden states of a piece: [tokens, features]."""
        self._batch.clear()
        self._batch.add_all(piece, position, 0, wanted=True)
        library = self._library
        decode = library.llama_decode if self._causal else library.llama_encode
        status = decode(self._context, self._batch.native)
        first: Any = library.llama_get_embeddings(self._context) if status == 0 else None
        if not first:
            raise RuntimeError(f"llama.cpp made no embeddings, status {status}")
        return matrix_at(first, len(piece), self._features)
