"""The model and its batch, as MLX objects. Only the engine's thread may touch it.

Importing this file imports MLX.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import mlx.core as mx
import msgspec
from mlx_lm.generate import BatchGenerator, StopSequences
from mlx_lm.utils import load_model
from mlx_lm.utils import load_tokenizer as _load_tokenizer

from backends.inprocess.params import Sampling
from backends.inprocess.runtime import Prompts, Runtime, SequenceSpec, Token
from backends.mlx.chat import TemplatePrompts
from backends.mlx.model import prefill_step, read_json
from backends.mlx.sampling import LogitsProcessor, Samplers, logits_processors

_PREFILL_BATCH = 8
_WARM_UP_STEPS = 16
_CONTEXT_FIELDS = ("max_position_embeddings", "max_sequence_length", "seq_length", "n_positions")
_UNKNOWN_CONTEXT = 32768
"""Where a model does not say how much it can read (state-space models have no limit)."""
_SAMPLING_DEFAULTS = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")


class MlxRuntime(Runtime):
    """One loaded model and the sequences it generates together."""

    def __init__(self, directory: Path, *, max_batch: int) -> None:
        self._model, config = load_model(directory)
        load_tokenizer: Callable[..., Any] = _load_tokenizer
        tokenizer = load_tokenizer(directory, eos_token_ids=config.get("eos_token_id"))
        self._stop = StopSequences([[token] for token in sorted(tokenizer.eos_token_ids)])
        self._never_stop = StopSequences()
        self._max_batch = max_batch
        self._samplers = Samplers(lambda: secrets.randbits(64))
        self._generator = self._new_generator()
        text_config = {**config, **(config.get("text_config") or {})}
        self.prompts: Prompts = TemplatePrompts(tokenizer)
        self.vocabulary = int(text_config.get("vocab_size") or len(tokenizer))
        self.context = _context(text_config)
        self.defaults = _sampling_defaults(read_json(directory / "generation_config.json"))
        self.warm_up()

    def insert(self, spec: SequenceSpec, on_fault: Callable[[Exception], None]) -> int:
        """Add a sequence to the batch; gives its id.

        `on_fault` hears why its logits could not be processed; the sequence goes on without,
        because an exception there would take the others with it.
        """
        processors = logits_processors(spec.sampling, len(spec.prompt))
        (uid,) = self._generator.insert(
            [list(spec.prompt)],
            max_tokens=[spec.max_tokens],
            samplers=[self._samplers.get(spec.sampling)],
            logits_processors=[[_guarded(process, on_fault) for process in processors]],
            stop_sequences=[self._never_stop if spec.ignore_eos else self._stop],
        )
        return int(uid)

    def step(self) -> list[Token]:
        """Read a piece of the waiting prompts, and generate one token of each other sequence."""
        _, responses = self._generator.next()
        return [
            Token(r.uid, r.token, r.finish_reason == "stop", r.finish_reason == "length")
            for r in responses
        ]

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
        return BatchGenerator(
            self._model,
            completion_batch_size=self._max_batch,
            prefill_batch_size=min(_PREFILL_BATCH, self._max_batch),
            prefill_step_size=prefill_step(),
        )


def _guarded(process: LogitsProcessor, on_fault: Callable[[Exception], None]) -> LogitsProcessor:
    def guarded(tokens: mx.array, logits: mx.array) -> mx.array:
        try:
            return process(tokens, logits)
        except Exception as error:  # handed on, to the one sequence it concerns
            on_fault(error)
            return logits

    return guarded


def _context(config: Mapping[str, Any]) -> int:
    """How many tokens prompt and answer may have together."""
    sizes = (config.get(field) for field in _CONTEXT_FIELDS)
    return next((size for size in sizes if isinstance(size, int)), _UNKNOWN_CONTEXT)


def _sampling_defaults(config: Mapping[str, Any]) -> Sampling:
    """What the model's makers recommend, as vLLM reads it; OpenAI's defaults for the rest."""
    given = {name: config[name] for name in _SAMPLING_DEFAULTS if config.get(name) is not None}
    return msgspec.convert(given, Sampling)
