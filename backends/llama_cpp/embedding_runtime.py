"""A GGUF model that only makes embeddings. Engine thread only."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence

from backends.inprocess.params import Sampling
from backends.inprocess.runtime import Prompts, Runtime, SequenceSpec, Token
from backends.llama_cpp.embedding import RANK, Embedder, pooling_of
from backends.llama_cpp.model import Model
from backends.llama_cpp.prompts import GgufPrompts
from backends.llama_cpp.runtime import Settings
from backends.llama_cpp.vocabulary import Vocabulary


class EmbeddingRuntime(Runtime):
    """A model that looks at a whole text, and writes none. No sequence gets into its batch."""

    generates = False

    def __init__(self, model: Model, settings: Settings) -> None:
        """Raises `ValueError` for a model that makes no vectors."""
        if model.header.count("pooling_type") == RANK:
            raise ValueError("it ranks texts, and /v1/rerank is not served from this process")
        tokens = Vocabulary(model)
        self._embedder: Embedder | None = Embedder(
            model,
            context=settings.context,
            threads=settings.threads,
            pooling=pooling_of(model.header, settings.pooling),
        )
        self.prompts: Prompts = GgufPrompts(model, tokens)
        self.vocabulary = tokens.size
        self.context = settings.context
        self.defaults = Sampling()
        self.reset()

    def embed(self, prompts: Sequence[Sequence[int]]) -> Generator[None, None, list[list[float]]]:
        """A vector of length one for each of `prompts`; a long one in pieces."""
        if self._embedder is None:
            raise RuntimeError("the engine is closed")
        return (yield from self._embedder.embed_all(prompts))

    def insert(self, spec: SequenceSpec, on_fault: Callable[[Exception], None]) -> int:  # noqa: ARG002
        """There is nothing to generate."""
        raise ValueError("this model makes embeddings, and no text")

    def step(self) -> list[Token]:
        """Nothing."""
        return []

    def remove(self, uids: Sequence[int]) -> None:
        """Nothing is there to be removed."""

    def reset(self) -> None:
        """Check that the model still computes."""
        for _ in self.embed([[0]]):
            pass

    def close(self) -> None:
        """Free everything. Idempotent."""
        if self._embedder is not None:
            self._embedder.close()
            self._embedder = None
