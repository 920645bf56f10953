"""The model and its batch, as MLX objects. Only the engine's thread may touch it.

Importing this file imports MLX.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
from mlx_lm.generate import StopSequences
from mlx_lm.utils import load_model
from mlx_lm.utils import load_tokenizer as _load_tokenizer

from backends.inprocess.constraint import Constraint
from backends.inprocess.grammar import Grammar, Grammars
from backends.inprocess.params import Sampling
from backends.inprocess.runtime import Prompts, Runtime, SequenceSpec, Token
from backends.mlx.answer_format import find_format
from backends.mlx.batch import SampledBatch
from backends.mlx.chat import TemplatePrompts
from backends.mlx.embedding import embed, embedding_sizes, pooling_of
from backends.mlx.grammar import grammars
from backends.mlx.model import prefill_step, read_json
from backends.mlx.sampling import Row

_PREFILL_BATCH = 8
_WARM_UP_STEPS = 16
_CONTEXT_FIELDS = ("max_position_embeddings", "max_sequence_length", "seq_length", "n_positions")
_UNKNOWN_CONTEXT = 32768
"""Where a model does not say how much it can read (state-space models have no limit)."""
_SAMPLING_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class MlxRuntime(Runtime):
    """One loaded model and the sequences it generates together."""

    def __init__(
        self,
        directory: Path,
        *,
        max_batch: int,
        tool_parser: str = "auto",
        reasoning_parser: str = "auto",
        pooling: str = "auto",
    ) -> None:
        self._model, config = load_model(directory)
        load_tokenizer: Callable[..., Any] = _load_tokenizer
        tokenizer = load_tokenizer(directory, eos_token_ids=config.get("eos_token_id"))
        self._stop = StopSequences([[token] for token in sorted(tokenizer.eos_token_ids)])
        self._never_stop = StopSequences()
        self._max_batch = max_batch
        self._pooling = pooling_of(directory, pooling)
        self.embedding_sizes = embedding_sizes(config)
        self.answers = find_format(
            tokenizer, tool_parser=tool_parser, reasoning_parser=reasoning_parser
        )
        self._generator = self._new_generator()
        text_config = {**config, **(config.get("text_config") or {})}
        self.vocabulary = int(text_config.get("vocab_size") or len(tokenizer))
        self._grammars = _grammars(tokenizer, self.vocabulary)
        self.prompts: Prompts = TemplatePrompts(
            tokenizer, self._grammars.piece if self._grammars else None
        )
        self.context = _context(text_config)
        self.defaults = _sampling_defaults(read_json(directory / "generation_config.json"))
        self.warm_up()

    def compile(self, constraint: Constraint) -> Grammar:
        """What holds a sequence to `constraint`; raises `RequestRefused`."""
        if self._grammars is None:
            return super().compile(constraint)  # type: ignore[no-any-return]
        return self._grammars.compile(constraint)

    def insert(self, spec: SequenceSpec, on_fault: Callable[[Exception], None]) -> int:
        """Add a sequence to the batch; gives its id.

        `on_fault` hears why its grammar could not be followed; the sequence goes on without,
        because an exception there would take the others with it.
        """
        row = Row(
            spec.sampling,
            seed=secrets.randbits(64),
            prompt_tokens=len(spec.prompt),
            matcher=spec.grammar.matcher(on_fault) if spec.grammar is not None else None,
            top_logprobs=spec.top_logprobs,
        )
        goes_on = spec.ignore_eos and spec.grammar is None
        (uid,) = self._generator.insert(
            [list(spec.prompt)],
            max_tokens=[spec.max_tokens],
            samplers=[row],
            stop_sequences=[self._never_stop if goes_on else self._stop],
        )
        return int(uid)

    def step(self) -> list[Token]:
        """Read a piece of the waiting prompts, and generate one token of each other sequence."""
        _, responses = self._generator.next()
        return [_token(response) for response in responses]

    def embed(self, prompts: Sequence[Sequence[int]]) -> list[list[float]]:
        """A vector for each prompt, of length one."""
        return embed(self._model, prompts, self._pooling)

    def remove(self, uids: Sequence[int]) -> None:
        """Take sequences out of the batch; ids that are not in it are ignored."""
        self._generator.remove(uids)

    def reset(self) -> None:
        """Drop all sequences, and check that the model still generates."""
        self._generator.close()
        self._generator = self._new_generator()
        self.warm_up()

    def warm_up(self) -> None:
        """Generate two tokens, so that kernels are compiled before the first request."""
        uids = self._generator.insert(
            [[0, 0, 0]], max_tokens=[2], stop_sequences=[self._never_stop]
        )
        for _ in range(_WARM_UP_STEPS):
            _, responses = self._generator.next()
            if any(response.finish_reason for response in responses):
                return
        self._generator.remove(uids)
        raise RuntimeError(f"no token after {_WARM_UP_STEPS} steps")

    def close(self) -> None:
        """Free the batch."""
        self._generator.close()

    def _new_generator(self) -> Any:
        return SampledBatch(
            self._model,
            completion_batch_size=self._max_batch,
            prefill_batch_size=min(_PREFILL_BATCH, self._max_batch),
            prefill_step_size=prefill_step(),
        )


def _token(response: Any) -> Token:
    reason, logprobs = response.finish_reason, response.logprobs
    return Token(
        response.uid,
        response.token,
        reason == "stop",
        reason == "length",
        None if logprobs is None else logprobs.read(),
    )


def _grammars(tokenizer: Any, vocabulary: int) -> Grammars | None:
    """None for a tokenizer that is a Python program: nobody knows what its tokens stand for."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    if fast is None:
        return None
    return grammars(fast, vocabulary=vocabulary, ends=sorted(tokenizer.eos_token_ids))


def _context(config: Mapping[str, Any]) -> int:
    """How many tokens prompt and answer may have together."""
    sizes = (config.get(field) for field in _CONTEXT_FIELDS)
    return next((size for size in sizes if isinstance(size, int)), _UNKNOWN_CONTEXT)


def _sampling_defaults(config: Mapping[str, Any]) -> Sampling:
    """What the model's makers recommend, as vLLM reads it; OpenAI's defaults for the rest."""
    given = {name: config[name] for name in _SAMPLING_DEFAULTS if config.get(name) is not None}
    return msgspec.convert(given, Sampling)
