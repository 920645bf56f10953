"""A GGUF model and the sequences it generates together. Only the engine's thread may touch it.

Rules of this file:

- llama.cpp ends the process where it is called wrongly: tokens, positions and slots are checked
  before they get there. `step` raises where it says no; then nothing of the batch is kept.
- A step is one `llama_decode`: a token for each sequence that generates, and a piece of the prompts
  of those that do not yet. It lets go of the GIL.
"""

from __future__ import annotations

import math
import secrets
from collections.abc import Callable, Generator, Mapping, Sequence
from functools import partial
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from backends.inprocess.constraint import Constraint
from backends.inprocess.grammar import Grammar, Matcher
from backends.inprocess.params import Sampling
from backends.inprocess.runtime import CacheCounts, KvPlan, Prompts, Runtime, SequenceSpec, Token
from backends.llama_cpp.answer_format import find_format
from backends.llama_cpp.batch import Batch
from backends.llama_cpp.embedding import Embedder, pooling_of
from backends.llama_cpp.grammar import forbid, grammars
from backends.llama_cpp.logprobs import token_logprobs
from backends.llama_cpp.matrix import Matrix, matrix_at
from backends.llama_cpp.memory import kv_bytes_per_token
from backends.llama_cpp.model import Model
from backends.llama_cpp.prompts import GgufPrompts
from backends.llama_cpp.sampling import SamplerChain, plain
from backends.llama_cpp.slots import Slot, Slots
from backends.llama_cpp.vocabulary import Vocabulary

_SAMPLING_KEYS = {
    "temperature": "temp",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "penalty_repeat",
}
"""`Sampling`'s names, and GGUF's below `general.sampling.`."""

Row = npt.NDArray[np.float32]
"""Logits of one token: [vocabulary]."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """How a model is run."""

    context: int
    """Tokens of one sequence."""
    max_batch: int
    threads: int
    prefill: int
    """Prompt tokens read in one step."""
    tool_parser: str = "auto"
    reasoning_parser: str = "auto"
    pooling: str = "auto"


class _Sequence:
    """What is known of one sequence of the batch."""

    __slots__ = (
        *("chain", "computed", "ended", "left", "matcher", "next", "on_fault"),
        *("place", "slot", "spec"),
    )

    def __init__(
        self,
        spec: SequenceSpec,
        slot: Slot,
        computed: int,
        chain: SamplerChain | None,
        matcher: Matcher | None,
        on_fault: Callable[[Exception], None],
    ) -> None:
        self.spec = spec
        self.slot = slot
        self.computed = computed
        """Tokens of the prompt that are in the KV cache."""
        self.chain = chain
        """None where the likeliest token is taken."""
        self.on_fault = on_fault
        self.matcher = matcher
        """Follows what the answer is held to, where it is."""
        self.left = spec.max_tokens
        self.next: int | None = None
        """The token that was sampled last; None while the prompt is read."""
        self.place = -1
        """Of its last token in the batch that is under way, where its logits are asked for."""
        self.ended = False
        """Nothing more is generated; it only waits to be removed."""


class LlamaCppRuntime(Runtime):
    """One loaded model and the sequences it generates together."""

    def __init__(self, model: Model, settings: Settings) -> None:
        library = model.library
        self._model = model
        self._library = library
        self._settings = settings
        self._context = _new_context(model, settings)
        self._memory = library.llama_get_memory(self._context)
        self._batch = Batch(library, settings.prefill + settings.max_batch)
        self._slots = Slots(settings.max_batch)
        self._sequences: dict[int, _Sequence] = {}
        self._next_uid = 0
        self._per_token = kv_bytes_per_token(model.header)
        self._embedder: Embedder | None = None
        tokens = Vocabulary(model)
        self._ends = tokens.ends
        self._grammars = grammars(model, tokens)
        self.prompts: Prompts = GgufPrompts(model, tokens)
        self.vocabulary = tokens.size
        self.answers = find_format(
            model.template() or "",
            tokens,
            tool_parser=settings.tool_parser,
            reasoning_parser=settings.reasoning_parser,
        )
        self.context = min(settings.context, int(library.llama_n_ctx_seq(self._context)))
        # Admission holds nobody back: a place in the batch has room for a whole context.
        self.kv = KvPlan(tokens=self.context * settings.max_batch)
        self.defaults = Sampling.recommended(partial(_recommended, model.header.metadata))
        self.warm_up()

    def cached_tokens(self, uid: int) -> int:
        """How many tokens of a sequence's prompt lay in its slot already."""
        return self._sequences[uid].computed

    def compile(self, constraint: Constraint) -> Grammar:
        """The grammar that holds a sequence to `constraint`; in any thread."""
        return self._grammars.compile(constraint)

    def embed(self, prompts: Sequence[Sequence[int]]) -> Generator[None, None, list[list[float]]]:
        """A vector of length one for each of `prompts`; a long one in pieces."""
        if self._embedder is None:
            settings = self._settings
            self._embedder = Embedder(
                self._model,
                context=self.context,
                threads=settings.threads,
                pooling=pooling_of(self._model.header, settings.pooling),
            )
        return (yield from self._embedder.embed_all(prompts))

    def insert(self, spec: SequenceSpec, on_fault: Callable[[Exception], None]) -> int:
        """Add a sequence to the batch; gives its id. Raises `ValueError` for what cannot be."""
        self._check(spec)
        slot, shared = self._slots.take(spec.prompt, spec.cache_salt)
        try:
            if not self._library.llama_memory_seq_rm(self._memory, slot.number, shared, -1):
                # Some models' state cannot be taken back to an earlier token, only dropped.
                self._library.llama_memory_seq_rm(self._memory, slot.number, -1, -1)
                shared = 0
            del slot.tokens[shared:]
            matcher = None if spec.grammar is None else spec.grammar.matcher(on_fault)
            chain = self._chain(spec)  # last: it must be closed
        except BaseException:
            self._slots.give_back(slot)
            raise
        uid = self._next_uid
        self._next_uid += 1
        self._sequences[uid] = _Sequence(spec, slot, shared, chain, matcher, on_fault)
        self._count(queries=len(spec.prompt), hits=shared)
        return uid

    def _chain(self, spec: SequenceSpec) -> SamplerChain | None:
        """None where the likeliest token is taken."""
        if plain(spec.sampling):
            return None
        return SamplerChain(
            self._model,
            spec.sampling,
            spec.prompt,
            room=spec.most_tokens,
            seed=secrets.randbits(32),
        )

    def step(self) -> list[Token]:
        """Read a piece of the waiting prompts, and generate one token of each other sequence."""
        asked = self._fill()
        if not self._batch.count:
            return []
        status = self._library.llama_decode(self._context, self._batch.native)
        if status != 0:
            raise RuntimeError(f"llama_decode failed with status {status}")
        if not asked:
            return []
        rows = self._rows(len(asked))
        best = rows.argmax(axis=1)
        tokens = []
        for at, (uid, sequence) in enumerate(asked):
            try:
                tokens.append(self._advance(uid, sequence, rows[at], int(best[at])))
            except Exception as error:  # it concerns this sequence alone
                sequence.ended = True
                sequence.on_fault(error)
                tokens.append(Token(uid, int(best[at]), ended=False, cut=True))
        return tokens

    def remove(self, uids: Sequence[int]) -> None:
        """Take sequences out of the batch; ids that are not in it are ignored."""
        for uid in uids:
            sequence = self._sequences.pop(uid, None)
            if sequence is None:
                continue
            if sequence.chain is not None:
                sequence.chain.close()
            self._slots.give_back(sequence.slot)
        self._count()

    def reset(self) -> None:
        """Drop all sequences, and check that the model still generates."""
        self.remove(list(self._sequences))
        self._slots = Slots(self._settings.max_batch)
        self._library.llama_memory_clear(self._memory, False)
        self._count()
        self.warm_up()

    def warm_up(self) -> None:
        """Compute one token, so that what is made at first use is there."""
        self._batch.clear()
        self._batch.add(0, 0, 0, wanted=True)
        status = self._library.llama_decode(self._context, self._batch.native)
        self._library.llama_memory_clear(self._memory, False)
        if status != 0:
            raise RuntimeError(f"llama_decode failed with status {status}")

    def close(self) -> None:
        """Free the KV cache; the model goes when nobody makes prompts any more. Idempotent."""
        if self._context is None:
            return
        self.remove(list(self._sequences))
        if self._embedder is not None:
            self._embedder.close()
        self._batch.close()
        self._library.llama_free(self._context)
        self._context = None

    def _check(self, spec: SequenceSpec) -> None:
        """What llama.cpp would not survive, whoever let it through."""
        if not spec.prompt or spec.most_tokens > self.context or spec.max_tokens < 1:
            raise ValueError(
                f"{len(spec.prompt)} tokens of prompt and {spec.max_tokens} of answer "
                f"do not fit into a context of {self.context}"
            )
        if min(spec.prompt) < 0 or max(spec.prompt) >= self.vocabulary:
            raise ValueError(f"token ids go from 0 to {self.vocabulary - 1}")

    def _fill(self) -> list[tuple[int, _Sequence]]:
        """Put together the next batch; gives the sequences whose logits it will have, in order."""
        batch = self._batch
        batch.clear()
        asked = []
        reading = []
        for uid, sequence in self._sequences.items():
            if sequence.ended:
                continue
            if sequence.next is None:
                reading.append((uid, sequence))
            else:
                slot = sequence.slot
                position = len(slot.tokens)
                sequence.place = batch.add(sequence.next, position, slot.number, wanted=True)
                slot.tokens.append(sequence.next)
                asked.append((uid, sequence))
        room = self._settings.prefill
        for uid, sequence in reading:
            if not room:
                break
            prompt, begin = sequence.spec.prompt, sequence.computed
            piece = prompt[begin : begin + room]
            room -= len(piece)
            batch.add_all(piece, begin, sequence.slot.number)
            sequence.slot.tokens.extend(piece)
            sequence.computed += len(piece)
            if sequence.computed == len(prompt):
                sequence.place = batch.want_last()
                asked.append((uid, sequence))
        return asked

    def _rows(self, count: int) -> Matrix:
        """The logits that the last batch asked for, in its order: [count, vocabulary]. No copy."""
        first = self._library.llama_get_logits(self._context)
        if not first:
            raise RuntimeError("llama.cpp has no logits")
        return matrix_at(first, count, self.vocabulary)

    def _advance(self, uid: int, sequence: _Sequence, row: Row, best: int) -> Token:
        """The sequence's next token."""
        if not math.isfinite(row[best]):
            raise ValueError("the model's logits are no numbers")
        spec, matcher = sequence.spec, sequence.matcher
        raw = None if spec.top_logprobs is None else row.copy()
        if matcher is not None:
            forbid(row, matcher)
            best = int(row.argmax())
        chain = sequence.chain
        token = best if chain is None else chain.sample(self._context, sequence.place)
        if matcher is not None:
            matcher.consume(token)
        sequence.next = token
        sequence.left -= 1
        # Behind the end of a grammar nothing may follow, so it wins over `ignore_eos`.
        ended = token in self._ends and not (spec.ignore_eos and matcher is None)
        cut = not ended and sequence.left == 0
        sequence.ended = ended or cut
        logprobs = None if raw is None else token_logprobs(raw, token, spec.top_logprobs or 0)
        return Token(uid, token, ended, cut, logprobs)

    def _count(self, *, queries: int = 0, hits: int = 0) -> None:
        counts = self.cache_counts
        self.cache_counts = CacheCounts(
            counts.queries + queries, counts.hits + hits, self._slots.cached * self._per_token
        )


def _new_context(model: Model, settings: Settings) -> Any:
    library = model.library
    params = library.llama_context_default_params()
    params.n_ctx = settings.context * settings.max_batch
    params.n_seq_max = settings.max_batch
    params.n_batch = params.n_ubatch = settings.prefill + settings.max_batch
    params.n_threads = params.n_threads_batch = settings.threads
    params.kv_unified = False  # a sequence has its own part of the cache: see `Slots`
    params.no_perf = True
    context = library.llama_init_from_model(model.pointer, params)
    if not context:
        raise MemoryError(
            f"no memory for a KV cache of {settings.max_batch} sequences with {settings.context} "
            "tokens each; lower context or max_batch"
        )
    return context


def _recommended(metadata: Mapping[str, object], name: str) -> object:
    """What a file says of one of `Sampling`'s fields, if that is a number."""
    value = metadata.get(f"general.sampling.{_SAMPLING_KEYS[name]}")
    return value if isinstance(value, int | float) else None
