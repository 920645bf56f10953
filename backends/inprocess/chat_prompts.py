"""What every library makes of a request on the way to token ids, and what it says no to.

A library brings its template and its tokenizer; which messages and variables they get, and whose
fault it is where they fail, is the same for all. It only reads: any thread may call it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from backends.base import RequestRefused
from backends.inprocess.failures import said
from backends.inprocess.images import Picture
from backends.inprocess.messages import ContentForm, Message, content_form, for_template
from backends.inprocess.params import Chat
from backends.inprocess.prompt import Prompt
from backends.inprocess.refusals import refusal, refuse, unsupported

_VARIABLES = "chat_template_kwargs"
_FIELDS = frozenset({"messages", "tools", "add_generation_prompt", "continue_final_message"})
"""What a template gets of the request's own fields."""
_TAKEN = frozenset(
    {"self", "conversation", "conversations", "documents", "chat_template", "tokenize", "padding"}
    | {"truncation", "max_length", "return_tensors", "return_dict", "tokenizer_kwargs"}
    | {"return_assistant_tokens_mask", "sanitize_control_tokens", "bos_token", "eos_token"}
)
"""What the libraries that render templates take for themselves, of the same name."""
_LONGEST_REASON = 300


class ChatPrompts(ABC):
    """The half of `Prompts` that makes prompts; the other half, which reads, is the library's."""

    def __init__(self, *, has_template: bool) -> None:
        """Once `_render` can be called: it is tried."""
        self._has_template = has_template
        self._form = ContentForm(parts=False)
        if has_template:
            self._form = content_form(self._render_question)

    @abstractmethod
    def _render(
        self,
        messages: Sequence[Message],
        *,
        tools: list[dict[str, Any]] | None,
        add_generation_prompt: bool,
        continue_final_message: bool,
        variables: Mapping[str, Any],
    ) -> str:
        """What the template makes of a conversation; may raise anything."""

    @abstractmethod
    def _encode_rendered(self, text: str) -> list[int]:
        """Token ids of what a template has written, special tokens too.

        Raises `ValueError` or `TypeError` for half of a surrogate pair.
        """

    @abstractmethod
    def _encode_plain(self, text: str, *, whole: bool) -> list[int]:
        """Token ids of a text, with what the model wants in front; with its end, where `whole`.

        Raises as `_encode_rendered`.
        """

    def _encode_pictures(self, text: str, pictures: Sequence[Picture]) -> Prompt:
        """What `_encode_rendered` does, with the placeholders of `pictures` in `text` filled in.

        Only for a library that sees. Raises `RequestRefused`, and as `_encode_rendered`.
        """
        raise NotImplementedError

    def chat(self, params: Chat, pictures: Sequence[Picture] = ()) -> Prompt:
        """The prompt for a conversation; raises `RequestRefused`."""
        if not self._has_template:
            unsupported("messages", "this model has no chat template; use /v1/completions")
        messages = [for_template(message, self._form) for message in params.messages]
        text = self._rendered(params, messages)
        try:
            if pictures:
                return self._encode_pictures(text, pictures)
            return Prompt(self._encode_rendered(text))
        except (TypeError, ValueError) as error:
            raise _no_text("messages", error) from None

    def _rendered(self, params: Chat, messages: Sequence[Message]) -> str:
        """What the template makes of a request; raises `RequestRefused`."""
        resume = bool(params.continue_final_message)
        render = partial(
            self._render,
            messages,
            tools=params.tools or None,
            add_generation_prompt=params.add_generation_prompt is not False and not resume,
            continue_final_message=resume,
        )
        try:
            return render(variables=_variables(params))
        except RequestRefused:
            raise
        except Exception as error:  # a template is a program: it may raise anything
            param = "messages"
            if params.chat_template_kwargs and _renders(render):
                param = _VARIABLES
            reason = said(error)[:_LONGEST_REASON]
            what = f"cannot be put into the model's chat template: {reason}"
            raise refusal(param, what) from error

    def text(self, text: str, *, param: str = "prompt", whole: bool = False) -> list[int]:
        """See `Prompts.text`."""
        try:
            return self._encode_plain(text, whole=whole)
        except (TypeError, ValueError) as error:
            raise _no_text(param, error) from None

    def _render_question(self, messages: list[Message]) -> str:
        return self._render(
            messages,
            tools=None,
            add_generation_prompt=True,
            continue_final_message=False,
            variables={},
        )


def _variables(params: Chat) -> dict[str, Any]:
    """What the client sets for the template; raises `RequestRefused` for what is not a client's."""
    variables = dict(params.chat_template_kwargs or {})
    for name in variables:
        if name in _FIELDS:
            refuse(f"{_VARIABLES}.{name}", "is a field of the request itself: set it there")
        if name in _TAKEN:
            refuse(f"{_VARIABLES}.{name}", "is set by the engine: leave it out")
    if params.reasoning_effort is not None:
        variables.setdefault("reasoning_effort", params.reasoning_effort)
    return variables


def _renders(render: Callable[..., str]) -> bool:
    """Whether a template takes a request without the client's variables."""
    try:
        render(variables={})
    except Exception:  # as above
        return False
    return True


def _no_text(param: str, error: Exception) -> RequestRefused:
    """Half of a surrogate pair is valid JSON, and no text."""
    return refusal(param, f"is not valid text: {error}")
