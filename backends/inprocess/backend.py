"""The async side of an engine in this process: requests become jobs, answers become replies.

Nothing here touches the engine's library; of the loaded model it uses what only reads.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import ClassVar

import msgspec

from backends.base import (
    Adapter,
    Backend,
    BackendError,
    Cause,
    Endpoint,
    Reply,
    Request,
    RequestRefused,
    Stage,
)
from backends.capabilities import GENERATION, Capability
from backends.inprocess.answer import Answer, EventStream, Whole
from backends.inprocess.answer_constraint import constraint_of
from backends.inprocess.answer_texts import AnswerTexts
from backends.inprocess.compiler import Compiler
from backends.inprocess.constraint import Compiled, Thinking
from backends.inprocess.embedder import embed
from backends.inprocess.engine import Engine
from backends.inprocess.events import ChatWriter, CompletionWriter, Usage, Writer
from backends.inprocess.image_intake import ImageIntake
from backends.inprocess.image_parts import ImagePart
from backends.inprocess.images import Picture
from backends.inprocess.job import Job, Row
from backends.inprocess.params import Chat, Completion, parse_chat, parse_completion
from backends.inprocess.prompt import Prompt
from backends.inprocess.refusals import Code, refuse, unsupported
from backends.inprocess.runtime import Runtime, SequenceSpec
from backends.load import Load
from backends.options import Images, InProcessOptions
from backends.readiness import Readiness

logger = logging.getLogger(__name__)

ADDRESS = "in-process"
_LONG_BODY = 16 << 10
"""Bytes from which on a prompt is made in a worker thread: below, the hop costs more."""


class InProcessBackend(Backend):
    """One model in this process; `library` is what its errors call the engine: `MLX`."""

    library: ClassVar[str]

    capabilities: frozenset[Capability] = GENERATION | {Capability.PREFILL}
    counts_chats = True
    takes_priority = True
    loads_here = True
    addresses = (ADDRESS,)

    def __init__(
        self,
        name: str,
        options: InProcessOptions,
        load_runtime: Callable[[], Runtime],
        *,
        images: Images | None = None,
    ) -> None:
        """`load_runtime` blocks, in the engine's thread, until the model can generate.

        `images`: what a model that sees is given to look at.
        """
        self.name = name
        self._model = options.model
        self._engine = Engine(
            self.library,
            load_runtime,
            max_batch=options.max_batch,
            max_waiting=options.max_waiting,
            queue_timeout=options.queue_timeout,
            stall_timeout=options.stall_timeout,
        )
        self._intake = ImageIntake(
            images or Images(),
            max_waiting=options.max_waiting,
            queue_timeout=options.queue_timeout,
        )
        self._runtime: Runtime | None = None
        self._compiler: Compiler | None = None
        self._wanted = options.loras
        """What is loaded at the start."""
        self._adapters: set[Adapter] = set()

    async def start(self) -> None:
        """Load the model and generate a token; raises `BackendError` that says what to do."""
        began = time.monotonic()
        self._runtime = await self._engine.start()
        self._claim(self._runtime)
        self._compiler = Compiler(self._runtime.compile)
        for adapter in sorted(self._wanted, key=lambda one: one.name):
            await self.load_adapter(ADDRESS, adapter)
            logger.info("%s: adapter %s: loaded", self.name, adapter.name)
        logger.info("%s: ready after %.1f s", self.name, time.monotonic() - began)

    async def stop(self) -> None:
        """End the engine's thread; replies still open are cut."""
        await self._engine.stop()
        self._runtime = None
        self._compiler = None
        self._adapters.clear()

    async def until_dead(self) -> str:
        """Wait until its engine cannot generate ever again, and give why."""
        return f"{self.library}: {await self._engine.until_dead()}"

    async def probe(self, address: str) -> Readiness:  # noqa: ARG002 — there is one replica
        """Whether the thread lives and its steps end."""
        return self._engine.health()

    def load(self, address: str) -> Load:  # noqa: ARG002 — as above
        """How many sequences are in the batch, and how many wait for a place in it.

        Who waits for a turn to have images read has one step more to go, and waits, too.
        """
        load, intake = self._engine.load(), self._intake
        if not intake.waiting and not intake.waited:
            return load
        return msgspec.structs.replace(
            load, waiting=load.waiting + intake.waiting, waited=load.waited + intake.waited
        )

    def has_adapter(self, address: str, adapter: Adapter) -> bool:  # noqa: ARG002 — as above
        """See `Backend.has_adapter`."""
        return adapter in self._adapters

    async def find_adapters(
        self,
        address: str,  # noqa: ARG002 — as above
        known: Collection[Adapter],
    ) -> frozenset[Adapter]:
        """See `Backend.find_adapters`."""
        return frozenset(known) & self._adapters

    async def load_adapter(self, address: str, adapter: Adapter) -> None:  # noqa: ARG002 — as above
        """See `Backend.load_adapter`. Sequences that generate go on before and after it."""
        content = await asyncio.to_thread(self._loaded().fetch_adapter, adapter)
        await self._engine.run(lambda runtime: runtime.load_adapter(adapter, content))
        self._adapters.add(adapter)

    async def unload_adapter(self, address: str, adapter: Adapter) -> None:  # noqa: ARG002 — as above
        """See `Backend.unload_adapter`."""
        self._adapters.discard(adapter)  # no new request gets it from here on
        try:
            await self._engine.run(lambda runtime: runtime.unload_adapter(adapter))
        except BaseException:
            self._adapters.add(adapter)
            raise

    async def count_text(self, address: str, text: str) -> int | None:  # noqa: ARG002 — as above
        """See `Backend.count_text`."""
        with contextlib.suppress(BackendError):
            encode = self._loaded().prompts.text
            in_front = len(encode(".")) - 1  # what the model wants at the beginning of a text
            return len(await asyncio.to_thread(encode, text)) - in_front
        return None

    async def send(self, address: str, request: Request) -> Reply:  # noqa: ARG002 — as above
        """Generate. Returns with the first piece of a stream, or with the whole answer."""
        if request.endpoint is Endpoint.COUNT_TOKENS:
            return await self._count(request)
        self._check_adapter(request)
        if request.endpoint is Endpoint.EMBEDDINGS and Capability.EMBEDDINGS in self.capabilities:
            runtime = self._loaded()
            body = await embed(self._engine, runtime, request.body, model=self._model)
            return _in_one_piece(body)
        params = self._parse(request)
        if isinstance(params, Chat) and (images := params.images):
            self._check_sight(images)
            prompts = await self._intake.look(images, partial(self._prompts, params))
        elif len(request.body) < _LONG_BODY:
            prompts = self._prompts(params)
        else:
            prompts = await asyncio.to_thread(self._prompts, params)
        texts = AnswerTexts(self._loaded(), params, stream=request.stream)
        grammar = await self._grammar(params, texts.thinking(prompts[0].tokens))
        answer = Answer(len(prompts) * params.choices)
        job = self._job(
            params, prompts, answer, texts, grammar, stream=request.stream, adapter=request.adapter
        )
        length = sum(len(prompt.tokens) for prompt in prompts)
        del prompts  # which hold pictures: from here on they are the engine's
        writer = _writer(params, params.model or self._model, self._loaded().prompts.piece)
        self._engine.submit(job)
        try:
            if request.stream:
                return await self._stream(params, length, job, answer, writer)
            return await self._whole(length, job, answer, writer)
        except BaseException:
            self._engine.cancel(job)
            raise

    async def _stream(
        self,
        params: Chat | Completion,
        prompt_tokens: int,
        job: Job,
        answer: Answer,
        writer: Writer,
    ) -> Reply:
        body = EventStream(
            answer,
            writer,
            await answer.next(),
            choices=answer.choices,
            prompt_tokens=prompt_tokens if params.usage_in_stream else None,
            cached_tokens=job.cached_tokens,
            cancel=partial(self._engine.cancel, job),
        )
        return Reply(200, ((b"content-type", b"text/event-stream; charset=utf-8"),), body)

    async def _whole(self, prompt_tokens: int, job: Job, answer: Answer, writer: Writer) -> Reply:
        deltas = await answer.all()
        usage = Usage(prompt_tokens, answer.tokens, answer.reasoning_tokens, job.cached_tokens())
        choices = range(answer.choices)
        by_choice = [[d for d in deltas if d.index == index] for index in choices]
        return _in_one_piece(writer.whole(by_choice, usage))

    async def _count(self, request: Request) -> Reply:
        """How many tokens a chat's prompt has, also one that is too long for an answer."""
        params = parse_chat(request.body)
        make = partial(self._loaded().prompts.chat, params)
        if images := params.images:
            self._check_sight(images)
            prompt = await self._intake.look(images, make)
        else:
            prompt = await asyncio.to_thread(make)
        return _in_one_piece(msgspec.json.encode({"input_tokens": len(prompt.tokens)}))

    def _check_adapter(self, request: Request) -> None:
        """Never the model itself for one of its adapters."""
        adapter = request.adapter
        if adapter is None:
            return
        if request.endpoint is Endpoint.EMBEDDINGS:
            message = f"{self.library} makes no embeddings with adapters: ask for the model itself"
            raise RequestRefused(501, message, param="model")
        if adapter not in self._adapters:
            message = f"{self.library}: the adapter {adapter.name!r} is not loaded"
            raise BackendError(Stage.CONNECT, Cause.ENGINE, message)

    def _claim(self, runtime: Runtime) -> None:
        """What its kind can if the model can, this one can; or it cannot, and others are asked."""
        if not runtime.embeds:
            self.capabilities -= {Capability.EMBEDDINGS}
        if Capability.IMAGES not in self.conditional:
            return
        self.conditional -= {Capability.IMAGES}
        if not runtime.sees:
            self.capabilities -= {Capability.IMAGES}
            self.why_not = {Capability.IMAGES: runtime.why_blind}

    def _check_sight(self, images: Sequence[ImagePart]) -> None:
        """Refuse images where nobody would look at them."""
        runtime = self._loaded()
        if not runtime.sees:
            unsupported(images[0].where, runtime.why_blind)

    def _parse(self, request: Request) -> Chat | Completion:
        if request.endpoint is Endpoint.CHAT:
            return parse_chat(request.body)
        if request.endpoint is Endpoint.COMPLETIONS:
            return parse_completion(request.body)
        raise RequestRefused(501, f"{self.library} does not serve /v1/{request.endpoint}")

    def _loaded(self) -> Runtime:
        if self._runtime is None:
            reason = self._engine.health().reason or "it is being stopped"
            raise BackendError(
                Stage.CONNECT, Cause.ENGINE, f"{self.library} cannot answer: {reason}"
            )
        return self._runtime

    def _prompts(self, params: Chat | Completion, pictures: Sequence[Picture] = ()) -> list[Prompt]:
        """Token ids of each prompt, of a length that leaves room for an answer."""
        runtime = self._loaded()
        if not runtime.generates:
            unsupported("model", "this model makes embeddings, and no text: use /v1/embeddings")
        if isinstance(params, Chat):
            param, prompts = "messages", [runtime.prompts.chat(params, pictures)]
        else:
            param = "prompt"
            prompts = [
                Prompt(runtime.prompts.text(prompt) if isinstance(prompt, str) else prompt)
                for prompt in params.prompts
            ]
        for prompt in prompts:
            _check_prompt(
                prompt.tokens, param, context=runtime.context, vocabulary=runtime.vocabulary
            )
        if (wanted := len(prompts) * params.choices) > self._engine.capacity:
            most = self._engine.capacity
            what = f"comes to {wanted} answers, and {most} are possible here at once"
            refuse("n", what, code=Code.INTEGER_TOO_HIGH)
        return prompts

    async def _grammar(
        self, params: Chat | Completion, thinking: Thinking | None
    ) -> Compiled | None:
        """What the answers are held to; only a chat, which has one prompt, is thought about."""
        runtime, compiler = self._loaded(), self._compiler
        constraint = constraint_of(params, runtime.answers.tools, thinking)
        if constraint is None or compiler is None:
            return None
        try:
            return await compiler.grammar(constraint)
        except RequestRefused:
            if constraint.asked_for:
                raise
            return None

    def _job(
        self,
        params: Chat | Completion,
        prompts: list[Prompt],
        answer: Answer,
        texts: AnswerTexts,
        grammar: Compiled | None,
        *,
        stream: bool,
        adapter: Adapter | None,
    ) -> Job:
        runtime = self._loaded()
        sampling = params.sampling(runtime.defaults, runtime.vocabulary)
        limit = params.token_limit() or runtime.context
        job = Job(answer.sink, stream=stream, priority=params.priority or 0)
        for prompt in prompts:
            for choice in range(params.choices):
                text = texts.new(len(job.rows), prompt.tokens)
                spec = SequenceSpec(
                    prompt=prompt.tokens,
                    vision=prompt.vision,
                    # An upper bound is kept when the context ends first.
                    max_tokens=min(limit, runtime.context - len(prompt.tokens)),
                    sampling=sampling.for_choice(choice),
                    ignore_eos=bool(params.ignore_eos),
                    grammar=grammar,
                    top_logprobs=params.wanted_logprobs,
                    cache_salt=params.cache_salt,
                    adapter=adapter,
                )
                job.rows.append(Row(job, spec, text))
        return job


def _in_one_piece(body: bytes) -> Reply:
    headers = (
        (b"content-type", b"application/json"),
        (b"content-length", str(len(body)).encode()),
    )
    return Reply(200, headers, Whole(body))


def _check_prompt(prompt: list[int], param: str, *, context: int, vocabulary: int) -> None:
    if not prompt:
        refuse(param, "must not be empty", code=Code.EMPTY_STRING)
    if len(prompt) >= context:
        refuse(
            param,
            f"has {len(prompt)} tokens, but this model's context holds {context} tokens, "
            "prompt and answer together",
            code=Code.CONTEXT_EXCEEDED,
        )
    if min(prompt) < 0 or max(prompt) >= vocabulary:
        refuse(param, f"holds a token id that is not in 0 to {vocabulary - 1}")


def _writer(params: Chat | Completion, model: str, piece: Callable[[int], bytes]) -> Writer:
    reply_id = uuid.uuid4().hex
    created = int(time.time())
    if isinstance(params, Chat):
        return ChatWriter(
            reply_id=reply_id, created=created, model=model, piece=piece, call_id=_call_id
        )
    return CompletionWriter(reply_id=reply_id, created=created, model=model, piece=piece)


def _call_id() -> str:
    return f"call_{uuid.uuid4().hex[:24]}"
