"""Requests to token ids and token ids to text, with the model's own template and tokenizer.

Everything here may be called from several threads: it only reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from backends.base import RequestRefused
from backends.inprocess.messages import Message, for_template, takes_parts
from backends.inprocess.params import Chat, refuse

_RENDERER_FIELDS = frozenset(
    {"conversation", "tools", "documents", "chat_template", "add_generation_prompt"}
    | {"continue_final_message", "tokenize", "padding", "truncation", "max_length"}
    | {"return_tensors", "return_dict", "return_assistant_tokens_mask", "tokenizer_kwargs"}
)
"""What `apply_chat_template` takes for itself, so no client may set it as a template variable."""


class TemplatePrompts:
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
        self._takes_parts = tokenizer.has_chat_template and takes_parts(self._render_question)

    def chat(self, params: Chat) -> list[int]:
        """The prompt for a conversation; raises `RequestRefused`."""
        if not self._tokenizer.has_chat_template:
            refuse("messages", "this model has no chat template; use /v1/completions")
        messages = [for_template(m, takes_parts=self._takes_parts) for m in params.messages]
        variables = {
            name: value
            for name, value in (params.chat_template_kwargs or {}).items()
            if name not in _RENDERER_FIELDS
        }
        if params.reasoning_effort is not None:
            variables.setdefault("reasoning_effort", params.reasoning_effort)
        resume = bool(params.continue_final_message)
        opens = params.add_generation_prompt is not False and not resume
        try:
            text = self._tokenizer.apply_chat_template(
                messages,
                tools=params.tools or None,
                tokenize=False,
                add_generation_prompt=opens,
                continue_final_message=resume,
                **variables,
            )
        except Exception as error:  # a template is a program: it may raise anything
            message = f"the model's chat template does not take these messages: {error}"
            raise RequestRefused(400, message, param="messages") from error
        # The template has written the special tokens already.
        return self._encode(text, special=False, param="messages")

    def text(self, text: str, *, param: str = "prompt") -> list[int]:
        """The prompt for a text to complete, with the tokens a model wants in front."""
        return self._encode(text, special=True, param=param)

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

    def _encode(self, text: str, *, special: bool, param: str) -> list[int]:
        try:
            if self._fast is not None:
                return list(self._fast.encode(text, add_special_tokens=special).ids)
            return list(self._tokenizer.encode(text, add_special_tokens=special))
        except (TypeError, ValueError) as error:
            # Half of a surrogate pair is valid JSON, and no text.
            raise RequestRefused(400, f"{param} is not valid text: {error}", param=param) from None

    def _render_question(self, messages: list[Message]) -> str:
        text: str = self._tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=True
        )
        return text
