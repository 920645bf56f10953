"""What a library that generates tokens must offer to become an engine in this process.

Rules of this file:

- A `Runtime` belongs to the thread that made it. Only `prompts` and the plain values may be used
  elsewhere: they only read.
- A sequence that cannot go on fails alone: `insert` may raise, `step` may not for the sake of one
  sequence, because nobody would know which one it was.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import NamedTuple, Protocol

import msgspec

from backends.base import Adapter, BackendError, Cause, RequestRefused, Stage
from backends.inprocess.answer_format import AnswerFormat
from backends.inprocess.constraint import Compiled, Constraint, blamed
from backends.inprocess.images import Picture
from backends.inprocess.logprobs import TokenLogprobs
from backends.inprocess.params import Chat, Sampling
from backends.inprocess.prompt import Prompt
from backends.inprocess.refusals import unsupported


class SequenceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """What to generate: one choice of one answer."""

    prompt: Sequence[int]
    """Token ids; at least one."""
    vision: object | None = None
    """What belongs to the pictures in it, from `Prompts.chat`."""
    max_tokens: int
    sampling: Sampling
    ignore_eos: bool = False
    """Go on after an end-of-sequence token. A grammar wins: behind its end nothing may follow."""
    grammar: Compiled | None = None
    """What the answer is held to, from `Runtime.compile`; many sequences may share it."""
    top_logprobs: int | None = None
    """How many log-probabilities are wanted for each token besides its own; None for none."""
    cache_salt: str | None = None
    """Only what was computed under the same salt is taken from the prompt cache; vLLM's field."""
    adapter: Adapter | None = None
    """The LoRA adapter to answer with; `insert` raises where it is not loaded."""

    @property
    def most_tokens(self) -> int:
        """How many tokens it can come to, prompt and answer."""
        return len(self.prompt) + self.max_tokens


class Token(NamedTuple):
    """The next token of one sequence."""

    uid: int
    token: int
    ended: bool
    """It is an end-of-sequence token."""
    cut: bool
    """It is the last one allowed."""
    logprobs: TokenLogprobs | None = None
    """Where they were asked for."""


class KvPlan(msgspec.Struct, frozen=True, kw_only=True):
    """How much of the KV cache there is memory for, and what a batch takes of it."""

    tokens: int
    """In all."""
    slack: int = 0
    """Tokens that a sequence may take beyond its own, because memory is taken in steps."""
    rectangular: bool = False
    """Every sequence takes as much as the longest one of the batch: shorter ones are padded."""


class CacheCounts(NamedTuple):
    """What the prompt cache has done since the engine started."""

    queries: int = 0
    """Tokens of prompts that were looked up."""
    hits: int = 0
    """Those of them that were found."""
    nbytes: int = 0
    """What it holds now."""


class Prompts(Protocol):
    """Requests to token ids and token ids to text. May be called from several threads."""

    def chat(self, params: Chat, pictures: Sequence[Picture] = ()) -> Prompt:
        """The prompt for a conversation; raises `RequestRefused`.

        `pictures` are those of its messages, in order; none for a `Runtime` that does not see.
        """
        ...

    def text(self, text: str, *, param: str = "prompt", whole: bool = False) -> list[int]:
        """The prompt for a text to complete; raises `RequestRefused`, which names `param`.

        With `whole`, the tokens of a text that is at its end, for an embedding.
        """
        ...

    def decode(self, tokens: Sequence[int]) -> str:
        """Text, without special tokens; bytes that are no UTF-8 as U+FFFD."""
        ...

    def decode_all(self, tokens: Sequence[int]) -> str:
        """The same with special tokens, as they are spelled."""
        ...

    def piece(self, token: int) -> bytes:
        """What one token stands for, also where that is a special token or half a character."""
        ...


class Runtime(Protocol):
    """One loaded model and the sequences it generates together."""

    prompts: Prompts
    vocabulary: int
    """Token ids go from 0 to one less."""
    context: int
    """Tokens that prompt and answer may have together."""
    defaults: Sampling
    """What the model's makers recommend, for what a request does not say."""

    sees: bool = False
    """Whether its prompts may hold pictures."""
    why_blind: str = "this model takes text only"
    """What a request with pictures is told, where it does not see."""
    generates: bool = True
    """Whether it writes text at all; there are models that only make embeddings."""
    answers: AnswerFormat = AnswerFormat()
    """How the model writes tool calls and thinking."""

    kv: KvPlan | None = None
    """What the batch may take; no bound where it is not given."""
    cache_counts: CacheCounts = CacheCounts()
    """Replaced, never changed: other threads may read it."""

    def cached_tokens(self, uid: int) -> int:  # noqa: ARG002 — most libraries have no prompt cache
        """How many tokens of a sequence's prompt need not be computed; asked after `insert`."""
        return 0

    def compile(self, constraint: Constraint) -> Compiled:
        """The grammar that holds a sequence to `constraint`; it takes long, in any thread.

        Raises `RequestRefused`, naming the schema that cannot be compiled.
        """
        message = "this engine cannot hold an answer to a schema"
        return unsupported(blamed(constraint), message)

    def insert(self, spec: SequenceSpec, on_fault: Callable[[Exception], None]) -> int:
        """Add a sequence to the batch; gives its id.

        `on_fault` hears, during a step, why the sequence cannot be sampled as asked; it goes on
        without that until it is removed.
        """
        ...

    embeds: bool = True
    """Whether embeddings can be made with it; there are libraries whose models hide too much."""
    embedding_sizes: Sequence[int] | None = None
    """The sizes that its embeddings can be cut to; empty for any, None where they cannot."""

    def embed(
        self,
        prompts: Sequence[Sequence[int]],  # noqa: ARG002 — as above
    ) -> Generator[None, None, list[list[float]]]:
        """A vector of length one for each of `prompts`, token ids; raises `RequestRefused`.

        It yields where others may have a turn: there may be a step before it goes on.
        """
        raise RequestRefused(501, "this engine makes no embeddings")

    def fetch_adapter(self, adapter: Adapter) -> object:
        """Read what `load_adapter` needs, in any thread: a disk may be slow.

        Raises `BackendError` that says what is wrong with the adapter.
        """
        message = f"this engine cannot load the adapter {adapter.name!r}"
        raise BackendError(Stage.CONNECT, Cause.UNSUPPORTED, message)

    def load_adapter(self, adapter: Adapter, content: object) -> None:  # noqa: ARG002 — see above
        """Have `adapter` beside the others; `content` is from `fetch_adapter`.

        Raises `BackendError`; then nothing has changed.
        """
        return

    def unload_adapter(self, adapter: Adapter) -> None:  # noqa: ARG002 — as above
        """Drop `adapter`, if it is there; raises `BackendError` while a sequence has it."""
        return

    def step(self) -> list[Token]:
        """Read a piece of the waiting prompts, and generate one token of each other sequence."""
        ...

    def remove(self, uids: Sequence[int]) -> None:
        """Take sequences out of the batch; ids that are not in it are ignored."""
        ...

    def reset(self) -> None:
        """Drop all sequences, and check that the model still generates."""
        ...

    def close(self) -> None:
        """Free everything."""
        ...
