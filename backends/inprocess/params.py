"""The fields of a request that this engine honours, checked.

Fields it does not know are ignored, as other engines do; a field it knows but cannot honour
is refused, with its name, rather than silently dropped.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Annotated, Any, NoReturn, Protocol, TypeVar

import msgspec
from msgspec import UNSET, Meta, UnsetType

from backends.base import RequestRefused
from backends.inprocess.logprobs import MAX_TOP
from backends.inprocess.response_format import ResponseFormat
from backends.inprocess.tool_choice import ToolChoice, read_tool_choice
from backends.malformed import MALFORMED

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
MAX_STOPS = 4
MAX_CHOICES = 128
MAX_BIAS = 100
_HUGE = 1e6
"""Beyond it a factor changes nothing any more, but is 0 or infinite in single precision."""
_MAX_DIGITS = 20
"""Of a token id: Python refuses to read numbers of thousands."""
_COMPLETIONS_MAX_TOKENS = 16
"""OpenAI's default for `/v1/completions`, which vLLM shares."""

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
            refuse("stop", f"at most {MAX_STOPS} stop strings are allowed, not {len(stops)}")
        if "" in stops:
            refuse("stop", "a stop string must not be empty")
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
        return _positive("max_tokens", self.max_tokens)

    def check(self) -> None:
        """Refuse what the types alone let through."""
        self.token_limit()
        _ = self.stops
        if self.return_token_ids:
            refuse("return_token_ids", "this engine does not return token ids: leave it out")
        if self.response_format is not None:
            self.response_format.answer()


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

        With `tool_choice: none` the model still sees the tools, as in llama-server and vLLM.
        """
        return bool(self.tools) and self.tool_choice != "none"

    @property
    def choice(self) -> ToolChoice:
        """What `tool_choice` says; checked."""
        names = {tool["function"]["name"] for tool in self.tools or ()}
        return read_tool_choice(self.tool_choice, names)

    @property
    def wanted_logprobs(self) -> int | None:
        """How many likely tokens are wanted beside each; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def token_limit(self) -> int | None:
        """`max_completion_tokens`, or its old name."""
        newer = _positive("max_completion_tokens", self.max_completion_tokens)
        return newer if newer is not None else super().token_limit()

    def check(self) -> None:
        """Refuse what the types alone let through."""
        super().check()
        if not self.messages:
            refuse("messages", "messages must hold at least one message")
        for at, message in enumerate(self.messages):
            _check_message(f"messages[{at}]", message)
        if self.top_logprobs is not None and not self.logprobs:
            refuse("top_logprobs", "top_logprobs needs logprobs: true")
        _check_top("top_logprobs", self.top_logprobs)
        for at, tool in enumerate(self.tools or ()):
            function = tool.get("function")
            if not (isinstance(function, dict) and isinstance(function.get("name"), str)):
                refuse("tools", f"tools[{at}] needs a function with a name")
        _ = self.choice
        if self.continue_final_message:
            self._check_continuation()

    def _check_continuation(self) -> None:
        if self.add_generation_prompt is True:
            refuse(
                "continue_final_message",
                "continue_final_message and add_generation_prompt exclude each other",
            )
        if self.response_format is not None and self.response_format.type != "text":
            refuse(
                "response_format",
                "an answer that goes on from a message cannot be held to a format from there: "
                "leave out either response_format or continue_final_message",
            )
        last = self.messages[-1]
        if last["role"] != "assistant" or not last.get("content"):
            refuse(
                "continue_final_message",
                "continue_final_message needs a last message from the assistant, with content",
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
            refuse("prompt", "prompt must not be empty")
        if all(isinstance(item, str) for item in prompt):
            return list(prompt)
        if all(
            isinstance(item, list) and item and all(type(token) is int for token in item)
            for item in prompt
        ):
            return list(prompt)
        return refuse(
            "prompt", "prompt must be text, a list of texts, token ids, or a list of those"
        )

    def token_limit(self) -> int | None:
        """`max_tokens`, with OpenAI's default."""
        limit = super().token_limit()
        return _COMPLETIONS_MAX_TOKENS if limit is None else limit

    def check(self) -> None:
        """Refuse what the types alone let through."""
        super().check()
        _ = self.prompts
        _check_top("logprobs", self.logprobs)
        if self.echo:
            refuse("echo", "this engine does not echo the prompt")
        if self.suffix:
            refuse("suffix", "this engine cannot fill in the middle")
        if self.best_of not in (None, 1) and self.best_of != self.choices:
            refuse("best_of", "this engine does not rank answers: best_of must equal n")


class Checked(Protocol):
    """A body that can refuse what its types alone let through."""

    def check(self) -> None: ...


_Kind = TypeVar("_Kind", bound=Checked)


def refuse(param: str, message: str, *, code: str | None = None) -> NoReturn:
    """Say no to the client, naming the field."""
    raise RequestRefused(400, f"{message}.", param=param, code=code)


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
        message = str(error)
        found = re.search(r"missing required field `(\w+)`", message) or re.search(
            r"`\$\.?([^`]+)`$", message
        )
        param = found.group(1) if found else None
        raise RequestRefused(400, f"{message}.", param=param) from None
    except MALFORMED as error:
        raise RequestRefused(400, f"the body is not valid JSON: {error}") from None
    params.check()
    return params


_SAMPLING_FIELDS = frozenset(Sampling.__struct_fields__) - {"logit_bias"}


def _logit_bias(bias: Mapping[str, float], vocabulary: int) -> tuple[tuple[int, float], ...]:
    for token, value in bias.items():
        if not -MAX_BIAS <= value <= MAX_BIAS:
            refuse("logit_bias", f"logit_bias[{token[:_MAX_DIGITS]!r}] must be from -100 to 100")
        known = token.isascii() and token.isdigit() and len(token) <= _MAX_DIGITS
        if not (known and int(token) < vocabulary):
            refuse(
                "logit_bias",
                f"logit_bias: {token[:_MAX_DIGITS]!r} is no token id; "
                f"ids go from 0 to {vocabulary - 1}",
            )
    return tuple((int(token), value) for token, value in bias.items())


def _check_top(param: str, count: int | None) -> None:
    if count is not None and not 0 <= count <= MAX_TOP:
        refuse(param, f"{param} must be from 0 to {MAX_TOP}, not {count}")


def _positive(param: str, limit: int | None) -> int | None:
    if limit is not None and limit <= 0:
        refuse(param, f"{param} must be at least 1, not {limit}")
    return limit


def _check_message(where: str, message: Mapping[str, Any]) -> None:
    role = message.get("role")
    if not isinstance(role, str) or role not in ROLES:
        refuse(f"{where}.role", f"{where}.role must be one of {_names(ROLES)}, not {role!r}")
    content = message.get("content")
    if content is None:
        if role != "assistant":
            refuse(f"{where}.content", f"{where} needs content")
    elif isinstance(content, list):
        for at, part in enumerate(content):
            _check_part(f"{where}.content[{at}]", part)
    elif not isinstance(content, str):
        refuse(f"{where}.content", f"{where}.content must be text or a list of parts")
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        refuse(f"{where}.tool_calls", f"{where}.tool_calls must be a list")
    for at, call in enumerate(calls):
        _check_call(f"{where}.tool_calls[{at}]", call)


def _check_part(where: str, part: object) -> None:
    if not isinstance(part, dict):
        refuse(where, f"{where} must be an object with a type")
    if part.get("type") not in ("text", "input_text", "refusal"):
        refuse(where, f"{where}: this model takes text only, not {part.get('type')!r} parts")
    if not isinstance(part.get("text", part.get("refusal")), str):
        refuse(where, f"{where} needs a text")


def _check_call(where: str, call: object) -> None:
    function = call.get("function") if isinstance(call, dict) else None
    if not isinstance(function, dict) or not isinstance(function.get("name"), str):
        refuse(where, f"{where} needs a function with a name")
    arguments = function.get("arguments")
    if isinstance(arguments, str):
        decode_arguments(f"{where}.function.arguments", arguments)


def decode_arguments(where: str, arguments: str) -> Any:
    """The value that a tool call's `arguments` hold; an empty object for none.

    Raises `RequestRefused`.
    """
    if not arguments:
        return {}
    try:
        return json.loads(arguments)
    except (ValueError, *MALFORMED) as error:
        return refuse(where, f"{where} is not JSON: {error}")


def _names(names: frozenset[str]) -> str:
    return ", ".join(sorted(names))
