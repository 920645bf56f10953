"""Requests to token ids and token ids to text, with the model's own template and tokenizer.

Everything here may be called from several threads: it only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from backends.inprocess.chat_prompts import ChatPrompts
from backends.inprocess.messages import Message


class TemplatePrompts(ChatPrompts):
    """What one model makes of a request.

    `tokenizer` is mlx-lm's `TokenizerWrapper`: it finds the template wherever a model keeps it,
    and knows the models whose template is a program.
    """

    def __init__(self, tokenizer: Any, piece: Callable[[int], bytes] | None = None) -> None:
        """`piece` tells what a token stands for; without it, what it decodes to alone."""
        self._tokenizer = tokenizer
        self._piece = piece
        # The Rust tokenizer itself, where there is one: it neither changes state when called
        # nor holds the GIL, and decodes several times faster than the wrapper around it.
        self._fast = getattr(tokenizer, "backend_tokenizer", None)
        super().__init__(has_template=tokenizer.has_chat_template)

    def decode(self, tokens: Sequence[int]) -> str:
        """Token ids to text, without special tokens."""
        if self._fast is not None:
            text: str = self._fast.decode(tokens, skip_special_tokens=True)
        else:
            text = self._tokenizer.decode(list(tokens), skip_special_tokens=True)
        return text

    def decode_all(self, tokens: Sequence[int]) -> str:
        """The same with special tokens."""
        if self._fast is not None:
            text: str = self._fast.decode(tokens, skip_special_tokens=False)
        else:
            text = self._tokenizer.decode(list(tokens), skip_special_tokens=False)
        return text

    def piece(self, token: int) -> bytes:
        """What one token stands for; half a character may be U+FFFD."""
        if self._piece is not None:
            return self._piece(token)
        text: str = self._tokenizer.decode([token])
        return text.encode()

    def _render(
        self,
        messages: Sequence[Message],
        *,
        tools: list[dict[str, Any]] | None,
        add_generation_prompt: bool,
        continue_final_message: bool,
        variables: Mapping[str, Any],
    ) -> str:
        text: str = self._tokenizer.apply_chat_template(
            messages,
            tools=tools,
            tokenize=False,
            add_generation_prompt=add_generation_prompt,
            continue_final_message=continue_final_message,
            **variables,
        )
        return text

    def _encode_rendered(self, text: str) -> list[int]:
        # The template has written the special tokens already.
        return self._encode(text, special=False)

    def _encode_plain(self, text: str, *, whole: bool) -> list[int]:  # noqa: ARG002 — one form for both
        return self._encode(text, special=True)

    def _encode(self, text: str, *, special: bool) -> list[int]:
        if self._fast is not None:
            return list(self._fast.encode(text, add_special_tokens=special).ids)
        return list(self._tokenizer.encode(text, add_special_tokens=special))
