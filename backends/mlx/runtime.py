"""The model and its batch, as MLX objects. Only the engine's thread may touch it.

Importing this file imports MLX.
"""

from __future__ import annotations

import logging
import secrets
from collections.abc import Callable, Generator, Hashable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import mlx.core as mx
from mlx_lm.generate import StopSequences
from mlx_lm.utils import load_config, load_model
from mlx_lm.utils import load_tokenizer as _load_tokenizer

from backends.base import Adapter, BackendError
from backends.inprocess.constraint import Constraint
from backends.inprocess.failures import failed
from backends.inprocess.grammar import Grammar, Grammars
from backends.inprocess.loading import Loading
from backends.inprocess.params import Sampling
from backends.inprocess.runtime import Prompts, Runtime, SequenceSpec, Token
from backends.memory import written
from backends.mlx.adapter_files import AdapterFiles, BadAdapter, look_at
from backends.mlx.answer_format import find_format
from backends.mlx.batch import SampledBatch
from backends.mlx.caches import LayerCaches, measure
from backends.mlx.chat import TemplatePrompts
from backends.mlx.cpu_layout import turn_weights
from backends.mlx.embedding import embed, embedding_sizes, gives_states, pooling_of
from backends.mlx.grammar import grammars
from backends.mlx.importing import environment_kept
from backends.mlx.kv_shape import KvShape
from backends.mlx.lora import Lora
from backends.mlx.memory import MemoryPlan, Wishes, of_text
from backends.mlx.model import computes_on_cpu, prefill_step, read_json
from backends.mlx.prompt_states import PromptStates
from backends.mlx.sampling import Row
from backends.mlx.vision.family import Family, Way, longest_step
from backends.mlx.vision.look import Look
from backends.mlx.vision.looking import Looking
from backends.mlx.vision.memory import PictureMemory
from backends.mlx.vision.sight import Sight
from backends.mlx.weights import load_weights

logger = logging.getLogger(__name__)

_PREFILL_BATCH = 8
_WARM_UP_STEPS = 16


class _Sequence(NamedTuple):
    """One that is in the batch."""

    scope: Hashable
    """Within which its prompt was looked up, and what it computes is kept."""
    cached: int
    """Tokens of its prompt that were found."""
    adapter: Adapter | None
    sight: Sight | None
    """What is to be seen in its prompt, without the images' arrays."""


class _FetchedAdapter(NamedTuple):
    """What has been read of an adapter."""

    files: AdapterFiles
    weights: bytes


class MlxRuntime(Runtime):
    """One loaded model and the sequences it generates together."""

    def __init__(
        self,
        directory: Path,
        *,
        way: Way,
        pictures: PictureMemory | None,
        plan: MemoryPlan,
        wishes: Wishes,
        memory: int,
        tool_parser: str = "auto",
        reasoning_parser: str = "auto",
        pooling: str = "auto",
        loading: Loading,
    ) -> None:
        self._model, config = _load(directory, way, loading)
        if computes_on_cpu():
            turn_weights(self._model)
        self._lora = Lora(self._model)
        self._room_for_adapters = memory - (plan.footprint.total - plan.footprint.adapters)
        load_tokenizer: Callable[..., Any] = _load_tokenizer
        tokenizer = load_tokenizer(directory, eos_token_ids=config.get("eos_token_id"))
        self._stop = StopSequences([[token] for token in sorted(tokenizer.eos_token_ids)])
        self._never_stop = StopSequences()
        self._max_batch = wishes.max_batch
        self._whole_images = way.family is not None and way.family.whole
        self._step = longest_step(way.family, config, prefill_step())
        self._states = PromptStates(plan.footprint.prompt_cache)
        self._sequences: dict[int, _Sequence] = {}
        self._pooling = pooling_of(directory, pooling)
        self.embeds = gives_states(self._model)
        self.embedding_sizes = embedding_sizes(config)
        self.answers = find_format(
            tokenizer, tool_parser=tool_parser, reasoning_parser=reasoning_parser
        )
        self._generator = self._new_generator()
        self.vocabulary = int(of_text(config).get("vocab_size") or len(tokenizer))
        self._grammars = _grammars(tokenizer, self.vocabulary)
        piece = self._grammars.piece if self._grammars else None
        self.prompts: Prompts = TemplatePrompts(tokenizer, piece)
        self._looking: Looking | None = None
        self.why_blind = way.why_blind
        if way.family is not None and pictures is not None:
            self._open_eyes(directory, tokenizer, piece, way.family, pictures)
        self.defaults = Sampling.recommended(read_json(directory / "generation_config.json").get)
        plan = plan.measured(self.warm_up(), wishes)
        self.kv, self.context = plan.kv, plan.context

    def _open_eyes(
        self,
        directory: Path,
        tokenizer: Any,
        piece: Callable[[int], bytes] | None,
        family: Family,
        pictures: PictureMemory,
    ) -> None:
        """See, if the model's processor can be used; else it is as good as any other for text."""
        from backends.mlx.vision import prompts  # noqa: PLC0415 — imports transformers' processors

        try:
            self.prompts = prompts.picture_prompts(
                tokenizer, piece, directory, family=family, room=pictures.room
            )
        except Exception as error:  # from a checkpoint's processor, or what that would need
            self.why_blind = "the model's own image processor cannot be used; the log says why"
            logger.warning(
                "%s takes no images: its processor cannot be used", directory, exc_info=error
            )
            return
        self.sees = True
        self._looking = Looking(self._model, pictures.seen)

    def cached_tokens(self, uid: int) -> int:
        """How many tokens of a sequence's prompt need not be computed; asked after `insert`."""
        return self._sequences[uid].cached

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
        prompt, sight = list(spec.prompt), spec.vision
        assert sight is None or isinstance(sight, Sight), "it is what `prompts` gave"
        scope = self._scope(spec)
        beginning = self._states.find(scope, prompt if sight is None else sight.key(prompt))
        start = len(beginning.tokens)
        look = Look(sight, start) if sight is not None else None
        segments = [prompt[start:]]
        if sight is not None and self._whole_images:
            segments = [prompt[begin:end] for begin, end in sight.segments(start)]
        row = Row(
            spec.sampling,
            seed=secrets.randbits(64),
            prompt_tokens=len(spec.prompt),
            matcher=spec.grammar.matcher(on_fault) if spec.grammar is not None else None,
            top_logprobs=spec.top_logprobs,
            adapter=spec.adapter,
            look=look,
        )
        goes_on = spec.ignore_eos and spec.grammar is None
        (uid,) = self._generator.insert_segments(
            [segments],
            max_tokens=[spec.max_tokens],
            caches=[beginning.caches],
            all_tokens=[prompt[:start]],
            samplers=[row],
            stop_sequences=[self._never_stop if goes_on else self._stop],
        )
        outline = look.sight if look is not None else None
        self._sequences[uid] = _Sequence(scope, start, spec.adapter, outline)
        if look is not None and self._looking is not None:
            self._looking.add(uid, look, on_fault)
        self.cache_counts = self._states.counts
        return int(uid)

    def _scope(self, spec: SequenceSpec) -> Hashable:
        """What it may share with others: the salt, and the adapter as it has been loaded."""
        if spec.adapter is None:
            return spec.cache_salt, None
        if spec.adapter not in self._lora:
            raise RuntimeError(f"the adapter {spec.adapter.name!r} is not loaded any more")
        return spec.cache_salt, self._lora.load_number(spec.adapter)

    def fetch_adapter(self, adapter: Adapter) -> object:
        """See `Runtime.fetch_adapter`."""
        try:
            files = look_at(Path(adapter.path))
            self._refuse_too_large(adapter, files, self._room_for_adapters)
            return _FetchedAdapter(files, files.weights.read_bytes())
        except (ValueError, OSError) as error:
            raise _unusable(adapter, error) from error

    def load_adapter(self, adapter: Adapter, content: object) -> None:
        """See `Runtime.load_adapter`."""
        assert isinstance(content, _FetchedAdapter), "it is what `fetch_adapter` gave"
        room = self._room_for_adapters - self._lora.nbytes
        self._refuse_too_large(adapter, content.files, room)
        try:
            self._lora.load(adapter, content.files, content.weights)
        except BadAdapter as error:
            raise _unusable(adapter, error) from error

    def _refuse_too_large(self, adapter: Adapter, files: AdapterFiles, room: int) -> None:
        needed = files.numbers * self._lora.number_size
        if needed > room:
            left = written(max(0, room))
            raise _unusable(
                adapter, f"it takes {written(needed)}, and {left} of the memory are left"
            )

    def unload_adapter(self, adapter: Adapter) -> None:
        """See `Runtime.unload_adapter`."""
        if users := sum(one.adapter == adapter for one in self._sequences.values()):
            raise failed(f"the adapter {adapter.name!r} is still used by {users} sequences")
        self._lora.unload(adapter)

    def step(self) -> list[Token]:
        """Read a piece of the waiting prompts, and generate one token of each other sequence."""
        failed_look = self._looking.step() if self._looking is not None else None
        _, responses = self._generator.next()
        for response in responses:
            if response.finish_reason is not None:
                self._keep(response.uid, response.all_tokens, response.prompt_cache)
        tokens = [_token(response) for response in responses]
        # One that cannot be read has no token: a step that gives it one ends it, and it alone.
        return tokens if failed_look is None else [*tokens, Token(failed_look, 0, False, False)]

    def embed(self, prompts: Sequence[Sequence[int]]) -> Generator[None, None, list[list[float]]]:
        """A vector for each prompt, of length one. Yields as often as a prompt is read in steps."""
        make_room = self._states.make_room
        return (
            yield from embed(
                self._model, prompts, self._pooling, step=prefill_step(), make_room=make_room
            )
        )

    def remove(self, uids: Sequence[int]) -> None:
        """Take sequences out of the batch; ids that are not in it are ignored."""
        still_in = [uid for uid in uids if uid in self._sequences]
        if not still_in:
            return
        left = self._generator.remove(still_in, return_prompt_caches=True)
        for uid, (caches, tokens) in left.items():
            if self._looking is not None:
                self._looking.remove(uid)
            self._keep(uid, tokens, caches)

    def _keep(self, uid: int, tokens: Sequence[int], caches: LayerCaches) -> None:
        """Keep what a sequence has computed, for prompts that begin in the same way."""
        sequence = self._sequences.pop(uid, None)
        if sequence is not None and len(tokens) > sequence.cached:
            key = tokens if sequence.sight is None else sequence.sight.key(tokens)
            self._states.keep(sequence.scope, key, caches)
            self.cache_counts = self._states.counts

    def reset(self) -> None:
        """Drop all sequences, and check that the model still generates."""
        self._generator.close()
        self._sequences.clear()
        self._states.clear()  # it may have been the memory
        if self._looking is not None:
            self._looking.clear()
        self.cache_counts = self._states.counts
        self._generator = self._new_generator()
        self.warm_up()

    def warm_up(self) -> KvShape:
        """Generate two tokens, so that kernels are compiled before the first request.

        Gives what the cache takes in truth.
        """
        uids = self._generator.insert(
            [[0, 0, 0]], max_tokens=[2], stop_sequences=[self._never_stop]
        )
        for _ in range(_WARM_UP_STEPS):
            _, responses = self._generator.next()
            for response in responses:
                if response.finish_reason:
                    return measure(response.prompt_cache, len(response.all_tokens))
        self._generator.remove(uids)
        raise RuntimeError(f"no token after {_WARM_UP_STEPS} steps")

    def close(self) -> None:
        """Free the batch, the model, and what MLX keeps of their memory for later."""
        self._generator.close()
        self._states.clear()
        del self._generator, self._lora, self._looking, self._model
        mx.clear_cache()

    def _new_generator(self) -> Any:
        return SampledBatch(
            self._model,
            self._lora,
            completion_batch_size=self._max_batch,
            prefill_batch_size=min(_PREFILL_BATCH, self._max_batch),
            prefill_step_size=self._step,
        )


def _load(directory: Path, way: Way, loading: Loading) -> tuple[Any, dict[str, Any]]:
    """The model in `directory`, in memory, and its config.json."""
    if way.family is not None:
        with environment_kept():
            from backends.mlx.vision.loading import load_seeing  # noqa: PLC0415 — imports mlx-vlm

        return load_seeing(directory, way.family, loading), load_config(directory)
    model, config = load_model(directory, lazy=True)
    load_weights(model.parameters(), loading.reached)
    return model, config


def _unusable(adapter: Adapter, why: object) -> BackendError:
    return failed(f"the adapter {adapter.name!r} cannot be used: {why}")


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
