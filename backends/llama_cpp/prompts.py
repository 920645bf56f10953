"""Requests to token ids and token ids to text, with the template and the vocabulary of a GGUF file.

Everything here may be called from several threads: it only reads, as llama.cpp's own tokenizer
does. It holds the model, so that the vocabulary is there as long as anybody asks for it.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import jinja2

from backends.base import RequestRefused
from backends.inprocess.failures import failed
from backends.inprocess.messages import for_template, takes_parts
from backends.inprocess.params import Chat, refuse
from backends.llama_cpp.model import Model
from backends.llama_cpp.template import ChatTemplate

_WITH_TOOLS = "tool_use"
"""What a model's second template is called, where it has one for conversations with tools."""


class GgufPrompts:
    """What one model makes of a request."""

    def __init__(self, model: Model) -> None:
        """Raises `BackendError` for a template that is none."""
        self._model = model
        self._library = library = model.library
        self._vocab = model.vocab
        self._bos = int(library.llama_vocab_bos(self._vocab))
        self._adds_bos = bool(library.llama_vocab_get_add_bos(self._vocab)) and self._bos >= 0
        self._template = self._compiled(model.template())
        self._tool_template = self._compiled(model.template(_WITH_TOOLS)) or self._template
        self._takes_parts = self._template is not None and takes_parts(self._template.render)

    def chat(self, params: Chat) -> list[int]:
        """The prompt for a conversation; raises `RequestRefused`."""
        template = self._tool_template if params.tools else self._template
        if template is None:
            refuse("messages", "this model has no chat template; use /v1/completions")
        messages = [for_template(m, takes_parts=self._takes_parts) for m in params.messages]
        resume = bool(params.continue_final_message)
        try:
            text = template.render(
                messages,
                tools=params.tools or None,
                add_generation_prompt=params.add_generation_prompt is not False and not resume,
                continue_final_message=resume,
                variables=params.chat_template_kwargs,
            )
        except Exception as error:  # a template is a program: it may raise anything
            message = f"the model's chat template does not take these messages: {error}"
            raise RequestRefused(400, message, param="messages") from error
        return self._tokens(text, "messages")

    def text(self, text: str) -> list[int]:
        """The prompt for a text to complete, with the token a model wants in front."""
        return self._tokens(text, "prompt")

    def decode(self, tokens: Sequence[int]) -> str:
        """Token ids to text, without special tokens."""
        return self._decode(tokens, special=False)

    def decode_all(self, tokens: Sequence[int]) -> str:
        """The same with special tokens, as they are spelled."""
        return self._decode(tokens, special=True)

    def piece(self, token: int) -> bytes:
        """What one token stands for, also where that is a special token or half a character."""
        to_piece, size = self._library.llama_token_to_piece, 64
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = int(to_piece(self._vocab, token, buffer, size, 0, True))  # noqa: FBT003
            if length >= 0:
                return buffer.raw[:length]
            size = -length

    def _tokens(self, text: str, param: str) -> list[int]:
        """Token ids. The model's first token stands there once, also where the text has it."""
        try:
            raw = text.encode()
        except UnicodeEncodeError as error:
            # Half of a surrogate pair is valid JSON, and no text.
            raise RequestRefused(400, f"{param} is not valid text: {error}", param=param) from None
        tokens = self._tokenize(raw)
        if self._adds_bos and (not tokens or tokens[0] != self._bos):
            tokens.insert(0, self._bos)
        return tokens

    def _tokenize(self, raw: bytes) -> list[int]:
        room = len(raw) + 2  # a token is at least a byte, but for a space put in front
        while True:
            tokens = (ctypes.c_int32 * room)()
            count = self._library.llama_tokenize(
                self._vocab,
                raw,
                len(raw),
                tokens,
                room,
                False,
                True,  # noqa: FBT003 — C's
            )
            if count >= 0:
                return tokens[:count]
            room = -count

    def _decode(self, tokens: Sequence[int], *, special: bool) -> str:
        count = len(tokens)
        array = (ctypes.c_int32 * count)(*tokens)
        size = 16 * count + 16
        while True:
            buffer = ctypes.create_string_buffer(size)
            length = self._library.llama_detokenize(
                self._vocab,
                array,
                count,
                buffer,
                size,
                False,
                special,  # noqa: FBT003 — C's
            )
            if length >= 0:
                return buffer.raw[:length].decode(errors="replace")
            size = -length

    def _compiled(self, source: str | None) -> ChatTemplate | None:
        if source is None:
            return None
        try:
            return ChatTemplate(
                source,
                bos_token=self._spelled(self._bos),
                eos_token=self._spelled(int(self._library.llama_vocab_eos(self._vocab))),
            )
        except jinja2.TemplateError as error:
            raise failed(f"the model's chat template is no template: {error}") from error

    def _spelled(self, token: int) -> str:
        return self.piece(token).decode(errors="replace") if token >= 0 else ""
