"""Requests to token ids and token ids to text, with the template that a GGUF file brings.

Everything here may be called from several threads: it only reads.
"""

from __future__ import annotations

from collections.abc import Sequence

import jinja2

from backends.base import RequestRefused
from backends.inprocess.failures import failed
from backends.inprocess.messages import for_template, takes_parts
from backends.inprocess.params import Chat, refuse
from backends.llama_cpp.model import Model
from backends.llama_cpp.template import ChatTemplate
from backends.llama_cpp.vocabulary import Vocabulary

_WITH_TOOLS = "tool_use"
"""What a model's second template is called, where it has one for conversations with tools."""


class GgufPrompts:
    """What one model makes of a request."""

    def __init__(self, model: Model, vocabulary: Vocabulary) -> None:
        """Raises `BackendError` for a template that is none."""
        self._vocabulary = vocabulary
        self._template = self._compiled(model.template())
        self._tool_template = self._compiled(model.template(_WITH_TOOLS)) or self._template
        self._takes_parts = self._template is not None and takes_parts(self._template.render)

    def chat(self, params: Chat) -> list[int]:
        """The prompt for a conversation; raises `RequestRefused`."""
        template = self._tool_template if params.tools else self._template
        if template is None:
            refuse("messages", "this model has no chat template; use /v1/completions")
        messages = [for_template(m, takes_parts=self._takes_parts) for m in params.messages]
        variables = dict(params.chat_template_kwargs or {})
        if params.reasoning_effort is not None:
            variables.setdefault("reasoning_effort", params.reasoning_effort)
        resume = bool(params.continue_final_message)
        try:
            text = template.render(
                messages,
                tools=params.tools or None,
                add_generation_prompt=params.add_generation_prompt is not False and not resume,
                continue_final_message=resume,
                variables=variables,
            )
        except Exception as error:  # a template is a program: it may raise anything
            message = f"the model's chat template does not take these messages: {error}"
            raise RequestRefused(400, message, param="messages") from error
        return self._encode(text, "messages")

    def text(self, text: str, *, param: str = "prompt") -> list[int]:
        """The prompt for a text to complete; as `input`, the tokens of a whole one, its end too."""
        return self._encode(text, param, as_input=param == "input")

    def decode(self, tokens: Sequence[int]) -> str:
        """Token ids to text, without special tokens."""
        return self._vocabulary.decode(tokens, special=False)

    def decode_all(self, tokens: Sequence[int]) -> str:
        """The same with special tokens, as they are spelled."""
        return self._vocabulary.decode(tokens, special=True)

    def piece(self, token: int) -> bytes:
        """What one token stands for, also where that is a special token or half a character."""
        return self._vocabulary.piece(token)

    def _encode(self, text: str, param: str, *, as_input: bool = False) -> list[int]:
        try:
            return self._vocabulary.encode(text, whole=as_input)
        except UnicodeEncodeError as error:
            # Half of a surrogate pair is valid JSON, and no text.
            raise RequestRefused(400, f"{param} is not valid text: {error}", param=param) from None

    def _compiled(self, source: str | None) -> ChatTemplate | None:
        if source is None:
            return None
        tokens = self._vocabulary
        try:
            return ChatTemplate(source, bos_token=tokens.bos_text, eos_token=tokens.eos_text)
        except jinja2.TemplateError as error:
            raise failed(f"the model's chat template is no template: {error}") from error
