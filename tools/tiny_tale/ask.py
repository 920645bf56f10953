"""The shipped files as something one can ask, with greedy decoding in plain torch."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer

from .chat import Message, Tool, render
from .export import load
from .model import TinyTale
from .tokenizer import END, END_OF_TEXT, identity, load_tokenizer

LIMIT = 450
"""Tokens an answer may have; every trained answer is shorter."""

OVERRUN = 30
"""Tokens by which an answer may be longer than expected before it is cut off."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model wrote, its token ids, and the smallest lead of a chosen token in logits.

    `ended` says whether the model stopped by itself.
    """

    text: str
    ids: list[int]
    margin: float
    ended: bool


@dataclass(frozen=True, slots=True)
class Teller:
    """The model of one folder: weights, tokenizer and chat template."""

    model: TinyTale
    tokenizer: Tokenizer
    template: str

    @classmethod
    def of(cls, folder: Path) -> "Teller":
        """Read a model folder as an engine does: from its files alone."""
        config = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
        return cls(load(folder), load_tokenizer(folder), config["chat_template"])

    def ask(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Answer:
        """Answer a conversation."""
        return self.complete(self.prompt(messages, tools))

    def prompt(self, messages: Sequence[Message], tools: Sequence[Tool] = ()) -> str:
        """A conversation as the model reads it when it is to answer."""
        return render(messages, tools, add_generation_prompt=True, source=self.template)

    def complete(self, prompt: str, expected: str | None = None) -> Answer:
        """Continue `prompt`, which already has every framing token it needs.

        With `expected` the same answer comes sooner where it is the expected one, and is cut off
        where it is much longer.
        """
        torch.set_num_threads(1)  # so small a model loses more to a second thread than it gains
        stop = frozenset(identity(self.tokenizer, token) for token in (END, END_OF_TEXT))
        draft = self.tokenizer.encode(expected or "").ids
        limit = LIMIT if expected is None else len(draft) + OVERRUN
        read = self.tokenizer.encode(prompt).ids
        ids, margin = self.model.greedy(read, stop, limit, draft)
        return Answer(self.tokenizer.decode(ids), ids, margin, ended=len(ids) < limit)
