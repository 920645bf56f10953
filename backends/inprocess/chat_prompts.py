"""What every library makes of a request on the way to token ids, and what it says no to.

A library brings its template and its tokenizer; which messages and variables they get, and whose
fault it is where they fail, is the same for all. It only reads: any thread may call it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from backends.base import RequestRefused
from backends.inprocess.images import Picture
from backends.inprocess.messages import Message, for_template, takes_parts
from backends.inprocess.params import Chat, refuse
from backends.inprocess.prompt import Prompt


class ChatPrompts(ABC):
    """The half of `Prompts` that makes prompts; the other half, which reads, is the library's."""

    def __init__(self, *, has_template: bool) -> None:
        """Once `_render` can be called: it is tried."""
        self._has_template = has_template
        self._takes_parts = has_template and takes_parts(self._render_question)

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
            refuse("messages", "this model has no chat template; use /v1/completions")
        messages = [for_template(m, takes_parts=self._takes_parts) for m in params.messages]
        variables = dict(params.chat_template_kwargs or {})
        if params.reasoning_effort is not None:
            variables.setdefault("reasoning_effort", params.reasoning_effort)
        resume = bool(params.continue_final_message)
        try:
            text = self._render(
                messages,
                tools=params.tools or None,
                add_generation_prompt=params.add_generation_prompt is not False and not resume,
                continue_final_message=resume,
                variables=variables,
            )
        except Exception as error:  # a template is a program: it may raise anything
            message = f"the model's chat template does not take these messages: {error}"
            raise RequestRefused(400, message, param="messages") from error
        try:
            if pictures:
                return self._encode_pictures(text, pictures)
            return Prompt(self._encode_rendered(text))
        except (TypeError, ValueError) as error:
            raise _no_text("messages", error) from None

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


def _no_text(param: str, error: Exception) -> RequestRefused:
    """Half of a surrogate pair is valid JSON, and no text."""
    return RequestRefused(400, f"{param} is not valid text: {error}", param=param)
