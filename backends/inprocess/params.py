"""The fields of a request that this engine honours, checked.

Fields it does not know are ignored, as other engines do; a field it knows but cannot honour
is refused, with its name, rather than silently dropped.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from backends.inprocess.image_parts import ImagePart, image_parts
from backends.inprocess.logprobs import MAX_TOP
from backends.inprocess.message_check import check_function, check_message
from backends.inprocess.refusals import (
    Code,
    check_range,
    of_bytes,
    of_decoder,
    refuse,
    shown,
    unsupported,
)
from backends.inprocess.response_format import ResponseFormat
from backends.inprocess.tool_choice import ToolChoice, read_tool_choice
from backends.malformed import MALFORMED

MAX_STOPS = 4
MAX_CHOICES = 128
MAX_BIAS = 100
_HUGE = 1e6
"""Beyond it a factor changes nothing any more, but is 0 or infinite in single precision."""
_MAX_DIGITS = 20
"""Of a token id: Python refuses to read numbers of thousands."""
_COMPLETIONS_MAX_TOKENS = 16
"""OpenAI's default for `/v1/completions`, which vLLM shares."""

_RECOMMENDED = ("temperature", "top_p", "top_k", "min_p", "repetition_penalty")
"""What makers of models recommend; vLLM reads the same."""

Penalty = Annotated[float, Meta(ge=-2, le=2)]


class Sampling(msgspec.Struct, frozen=True, kw_only=True):
    """How the next token is chosen: penalties and bias first, then temperature, then cuts."""

    temperature: float = 1.0
    """0 takes the likeliest token, always."""
    top_p: float = 1.0
    top_k: int = 0
    """0 for no cut."""
    min_p: float = 0.0
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    logit_bias: tuple[tuple[int, float], ...] = ()
    seed: int | None = None

    @classmethod
    def recommended(cls, said: Callable[[str], object]) -> Sampling:
        """What a model's makers recommend, OpenAI's defaults for the rest.

        `said` tells what they say of a field; None for nothing. Raises `msgspec.ValidationError`.
        """
        found = {name: said(name) for name in _RECOMMENDED}
        return msgspec.convert({name: v for name, v in found.items() if v is not None}, cls)

    @property
    def greedy(self) -> bool:
        """Whether no randomness is in it; the border is vLLM's."""
        return self.temperature < 1e-5

    @property
    def penalized(self) -> bool:
        """Whether it depends on what has been written."""
        return bool(self.presence_penalty or self.frequency_penalty or self.repetition_penalty != 1)

    def for_choice(self, choice: int) -> Sampling:
        """The same with another seed, so that the choices of one request differ; vLLM's way."""
        if not choice or self.seed is None:
            return self
        return msgspec.structs.replace(self, seed=self.seed + choice)


class Generation(msgspec.Struct, kw_only=True):
    """What both endpoints share."""

    model: str = ""
    stream: bool | None = None
    max_tokens: int | None = None
    n: Annotated[int, Meta(ge=1, le=MAX_CHOICES)] | None = None
    stop: str | list[str] | None = None
    seed: int | None = None
    temperature: Annotated[float, Meta(ge=0, le=_HUGE)] | None = None
    top_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    top_k: Annotated[int, Meta(ge=-1)] | None = None
    min_p: Annotated[float, Meta(ge=0, le=1)] | None = None
    presence_penalty: Penalty | None = None
    frequency_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(ge=1 / _HUGE, le=_HUGE)] | None = None
    logit_bias: dict[str, float] | None = None
    stream_options: StreamOptions | None = None
    response_format: ResponseFormat | None = None
    ignore_eos: bool | None = None
    return_token_ids: bool | None = None
    priority: int | None = None
    """Among the requests that wait, lower goes first; as in vLLM. 0 where it is not given."""
    cache_salt: str | None = None
    """Keeps what is cached of this prompt apart; as in vLLM."""

    @property
    def stops(self) -> tuple[str, ...]:
        """Stop strings; checked."""
        if self.stop is None:
            return ()
        stops = (self.stop,) if isinstance(self.stop, str) else tuple(self.stop)
        if len(stops) > MAX_STOPS:
            what = f"may hold at most {MAX_STOPS} strings, not {len(stops)}"
            refuse("stop", what, code=Code.ARRAY_TOO_LONG)
        if "" in stops:
            refuse("stop", "must not be empty, nor hold an empty string", code=Code.EMPTY_STRING)
        return stops

    @property
    def choices(self) -> int:
        """How many answers are wanted for one prompt."""
        return self.n or 1

    @property
    def usage_in_stream(self) -> bool:
        """Whether the stream shall end with a usage chunk."""
        return bool(self.stream_options and self.stream_options.include_usage)

    def sampling(self, defaults: Sampling, vocabulary: int) -> Sampling:
        """What was asked for, and the model's own defaults for the rest."""
        asked = {
            name: value for name in _SAMPLING_FIELDS if (value := getattr(self, name)) is not None
        }
        asked["top_k"] = max(0, asked.get("top_k", defaults.top_k))
        asked["logit_bias"] = _logit_bias(self.logit_bias or {}, vocabulary)
        return msgspec.structs.replace(defaults, **asked)

    def token_limit(self) -> int | None:
        """The most tokens to generate; None for as many as the context holds."""
        check_range("max_tokens", self.max_tokens, least=1)
        return self.max_tokens

    def check(self) -> None:
        """Refuse what the types alone let through."""
        self.token_limit()
        _ = self.stops
        if self.return_token_ids:
            unsupported("return_token_ids", "this engine does not return token ids: leave it out")
        if self.response_format is not None:
            _ = self.response_format.answer


class StreamOptions(msgspec.Struct):
    """OpenAI's `stream_options`."""

    include_usage: bool | None = None


class Chat(Generation, kw_only=True):
    """The body of `/v1/chat/completions`."""

    messages: list[dict[str, Any]]
    max_completion_tokens: int | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    logprobs: bool | None = None
    top_logprobs: int | None = None
    chat_template_kwargs: dict[str, Any] | None = None
    add_generation_prompt: bool | UnsetType = UNSET
    continue_final_message: bool | None = None
    include_reasoning: bool | None = None
    """Whether thinking is told; vLLM's field. It is counted all the same."""
    reasoning_effort: str | None = None
    """Handed to the chat template, as vLLM does."""

    @property
    def may_call(self) -> bool:
        """Whether what the model writes as a tool call is one.

        With `tool_choice: none` the model still reads of the tools, as in llama-server and vLLM.
        """
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def choice(self) -> ToolChoice:
        """What `tool_choice` says; checked."""
        names = {tool["function"]["name"] for tool in self.tools or ()}
        return read_tool_choice(self.tool_choice, names)

    @property
    def images(self) -> list[ImagePart]:
        """The images of its messages, in order."""
        return image_parts(self.messages)

    @property
    def wanted_logprobs(self) -> int | None:
        """How many likely tokens are wanted beside each; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def token_limit(self) -> int | None:
        """`max_completion_tokens`, or its old name."""
        newer = self.max_completion_tokens
        check_range("max_completion_tokens", newer, least=1)
        return newer if newer is not None else super().token_limit()

    def check(self) -> None:
        """Refuse what the types alone let through."""
        super().check()
        if not self.messages:
            refuse("messages", "must hold at least one message", code=Code.EMPTY_ARRAY)
        for at, message in enumerate(self.messages):
            check_message(f"messages[{at}]", message)
        if self.top_logprobs is not None and not self.logprobs:
            refuse("top_logprobs", "needs `logprobs: true`")
        check_range("top_logprobs", self.top_logprobs, least=0, most=MAX_TOP)
        for at, tool in enumerate(self.tools or ()):
            check_function(f"tools[{at}]", tool)
        _ = self.choice
        if self.continue_final_message:
            self._check_continuation()

    def _check_continuation(self) -> None:
        if self.add_generation_prompt is True:
            refuse(
                "continue_final_message",
                "excludes `add_generation_prompt: true`",
            )
        if self.response_format is not None and self.response_format.type != "text":
            unsupported(
                "response_format",
                "an answer that goes on from a message cannot be held to a format from there: "
                "leave out either response_format or continue_final_message",
            )
        last = self.messages[-1]
        if last["role"] != "assistant" or not last.get("content"):
            refuse(
                "continue_final_message",
                "needs a last message from the assistant, with content",
            )


class Completion(Generation, kw_only=True):
    """The body of `/v1/completions`."""

    prompt: str | list[Any]
    logprobs: int | None = None
    echo: bool | None = None
    suffix: str | None = None
    best_of: int | None = None

    @property
    def wanted_logprobs(self) -> int | None:
        """How many likely tokens are wanted beside each; None for no log-probabilities."""
        return self.logprobs

    @property
    def prompts(self) -> list[str | list[int]]:
        """One entry per prompt, each text or token ids; checked."""
        prompt = self.prompt
        if isinstance(prompt, str):
            return [prompt]
        if prompt and all(type(item) is int for item in prompt):
            return [prompt]
        if not prompt:
            refuse("prompt", "must not be empty", code=Code.EMPTY_ARRAY)
        if all(isinstance(item, str) for item in prompt):
            return list(prompt)
        if all(
            isinstance(item, list) and item and all(type(token) is int for token in item)
            for item in prompt
        ):
            return list(prompt)
        return refuse(
            "prompt",
            "must be a text, a list of texts, token ids, or a list of those",
            code=Code.INVALID_TYPE,
        )

    def token_limit(self) -> int | None:
        """`max_tokens`, with OpenAI's default."""
        limit = super().token_limit()
        return _COMPLETIONS_MAX_TOKENS if limit is None else limit

    def check(self) -> None:
        """Refuse what the types alone let through."""
        super().check()
        _ = self.prompts
        check_range("logprobs", self.logprobs, least=0, most=MAX_TOP)
        if self.echo:
            unsupported("echo", "this engine does not repeat the prompt")
        if self.suffix:
            unsupported("suffix", "this engine cannot fill in the middle")
        if self.best_of not in (None, 1) and self.best_of != self.choices:
            unsupported("best_of", "this engine does not rank answers: it must equal `n`")


class Checked(Protocol):
    """A body that can refuse what its types alone let through."""

    def check(self) -> None: ...


_Kind = TypeVar("_Kind", bound=Checked)


def parse_chat(body: bytes) -> Chat:
    """The body of a chat request; raises `RequestRefused`."""
    return parse_body(body, Chat)


def parse_completion(body: bytes) -> Completion:
    """The body of a completion request; raises `RequestRefused`."""
    return parse_body(body, Completion)


def parse_body(body: bytes, kind: type[_Kind]) -> _Kind:
    """A body of any kind; raises `RequestRefused`."""
    try:
        params = msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise of_decoder(error) from None
    except MALFORMED as error:
        raise of_bytes(error) from None
    params.check()
    return params


_SAMPLING_FIELDS = frozenset(Sampling.__struct_fields__) - {"logit_bias"}


def _logit_bias(bias: Mapping[str, float], vocabulary: int) -> tuple[tuple[int, float], ...]:
    for token, value in bias.items():
        if not -MAX_BIAS <= value <= MAX_BIAS:
            refuse("logit_bias", f"must be from -100 to 100, also for token {shown(token)}")
        known = token.isascii() and token.isdigit() and len(token) <= _MAX_DIGITS
        if not (known and int(token) < vocabulary):
            refuse(
                "logit_bias",
                f"holds {shown(token)}, which is no token id: they go from 0 to {vocabulary - 1}",
            )
    return tuple((int(token), value) for token, value in bias.items())
