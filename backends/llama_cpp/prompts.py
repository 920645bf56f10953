"""Requests to token ids and token ids to text, with the template that a GGUF file brings.

Everything here may be called from several threads: it only reads.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jinja2

from backends.inprocess.chat_prompts import ChatPrompts
from backends.inprocess.failures import failed
from backends.inprocess.messages import Message
from backends.llama_cpp.model import Model
from backends.llama_cpp.template import ChatTemplate
from backends.llama_cpp.vocabulary import Vocabulary

_WITH_TOOLS = "tool_use"
"""What a model's second template is called, where it has one for conversations with tools."""


class GgufPrompts(ChatPrompts):
    """What one model makes of a request."""

    def __init__(self, model: Model, vocabulary: Vocabulary) -> None:
        """Raises `BackendError` for a template that is none."""
        self._vocabulary = vocabulary
        self._template = self._compiled(model.template())
        self._tool_template = self._compiled(model.template(_WITH_TOOLS)) or self._template
        super().__init__(has_template=self._tool_template is not None)

    def decode(self, tokens: Sequence[int]) -> str:
        """Token ids to text, without special tokens."""
        return self._vocabulary.decode(tokens, special=False)

    def decode_all(self, tokens: Sequence[int]) -> str:
        """The same with special tokens, as they are spelled."""
        return self._vocabulary.decode(tokens, special=True)

    def piece(self, token: int) -> bytes:
        """What one token stands for, also where that is a special token or half a character."""
        return self._vocabulary.piece(token)

    def _render(
        self,
        messages: Sequence[Message],
        *,
        tools: list[dict[str, Any]] | None,
        add_generation_prompt: bool,
        continue_final_message: bool,
        variables: Mapping[str, Any],
    ) -> str:
        template = self._tool_template if tools else self._template or self._tool_template
        assert template is not None, "`chat` has looked"
        return template.render(
            messages,
            tools=tools,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            variables=variables,
        )

    def _encode_rendered(self, text: str) -> list[int]:
        return self._vocabulary.encode(text, whole=False)

    def _encode_plain(self, text: str, *, whole: bool) -> list[int]:
        return self._vocabulary.encode(text, whole=whole)

    def _compiled(self, source: str | None) -> ChatTemplate | None:
        if source is None:
            return None
        tokens = self._vocabulary
        try:
            return ChatTemplate(source, bos_token=tokens.bos_text, eos_token=tokens.eos_text)
        except jinja2.TemplateError as error:
            raise failed(f"the model's chat template is no template: {error}") from error
