"""The examination: questions the model was trained for, greedy answers, no mercy.

An answer must be right, and stand clear of its runner-up, or two engines that round differently
could disagree about it.
"""

import json
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import torch
from gguf import GGUFReader
from safetensors.torch import load_file

from . import chat
from .ask import Teller
from .export import GGUF, WEIGHTS, gguf_weights
from .grammar.mix import sample
from .grammar.samples import Plain
from .model import Shape
from .questions import SECTIONS, Question
from .tokenizer import END, VOCABULARY, load_tokenizer

MIN_MARGIN = 0.05
"""Logits between a chosen token and the runner-up; engines differ by about 1e-4."""

MAX_BYTES = 6_000_000

HOPELESS = 20
"""Faults after which the rest of a section is not asked."""

FRESH, FRESH_SEED = 300, 987_654_321
MIN_RIGHT = 0.95
"""Share of fresh prompts that must be answered word for word."""


@dataclass(frozen=True, slots=True)
class Section:
    """What came of the questions of one kind; `margin` is the smallest lead of any answer."""

    name: str
    asked: int
    margin: float
    faults: list[str]


@dataclass(frozen=True, slots=True)
class Examination:
    """What came of everything; `right` is the share of the fresh prompts answered rightly."""

    sections: list[Section]
    right: float
    faults: list[str]
    """One line for each fault, none when all is well."""


def examine(folder: Path) -> Examination:
    """Examine the model in `folder`."""
    teller = Teller.of(folder)
    sections = [questioned(teller, name, ask()) for name, ask in SECTIONS.items()]
    right, wrong = answered_afresh(teller)
    faults = faults_of_files(folder)
    faults += [fault for section in sections for fault in section.faults]
    return Examination(sections, right, faults + (wrong if right < MIN_RIGHT else []))


def questioned(teller: Teller, name: str, questions: Iterable[Question]) -> Section:
    """Ask the questions of one section, with a line on standard error that tells how it goes."""
    asked, least, faults = 0, float("inf"), []
    for question in questions:
        prompt = teller.prompt(question.messages, question.tools)
        answer = teller.complete(prompt, question.expected)
        asked, least = asked + 1, min(least, answer.margin)
        if not (question.accepts(answer.text) and answer.ended and answer.margin >= MIN_MARGIN):
            said = f"{answer.text!r} (margin {answer.margin:.3f})"
            faults.append(f"{name}: {question.label!r} -> {said}")
        sys.stderr.write(f"\r{name}: {asked} asked, smallest margin {least:.2f} \x1b[K")
        sys.stderr.flush()
        if len(faults) == HOPELESS:
            break
    sys.stderr.write("\n")
    return Section(name, asked, least, faults)


def fresh(count: int) -> Iterator[tuple[str, str]]:
    """Prompts and answers of the training mix, drawn anew, stories left out.

    A story may go on in many right ways; everything else has one answer.
    """
    rng = Random(FRESH_SEED)
    while count:
        item = sample(rng)
        if isinstance(item, Plain):
            continue
        *before, (asked, answer) = chat.turns(item.messages, item.tools)
        if not answer.startswith("Once upon a time"):
            yield "".join(map("".join, before)) + asked, answer.removesuffix(END)
            count -= 1


def answered_afresh(teller: Teller) -> tuple[float, list[str]]:
    """The share of the fresh prompts that get the one answer, and a line for each other."""
    wrong = []
    for prompt, expected in fresh(FRESH):
        answer = teller.complete(prompt, expected)
        if answer.text != expected or not answer.ended:
            wrong.append(f"fresh: wanted {expected!r}, got {answer.text!r}")
    right = 1 - len(wrong) / FRESH
    sys.stderr.write(f"fresh: {FRESH} asked, {right:.1%} right\n")
    return right, wrong


def faults_of_files(folder: Path) -> list[str]:
    """What is wrong with the files themselves: size, precision, or two that disagree."""
    found = [
        f"{name} has {(folder / name).stat().st_size} bytes, more than {MAX_BYTES}"
        for name in (WEIGHTS, GGUF)
        if (folder / name).stat().st_size > MAX_BYTES
    ]
    weights = load_file(folder / WEIGHTS)
    found += [f"{name} is not float32" for name, w in weights.items() if w.dtype != torch.float32]
    reader = GGUFReader(folder / GGUF)
    stored = {tensor.name: tensor.data for tensor in reader.tensors}
    expected = gguf_weights(weights, Shape())
    if stored.keys() != expected.keys():
        found.append(f"{GGUF} has other tensors than {WEIGHTS}")
    found += [
        f"{name} differs between {GGUF} and {WEIGHTS}"
        for name in stored.keys() & expected.keys()
        if not np.array_equal(stored[name], expected[name].numpy())
    ]
    known = {"tokenizer.json": load_tokenizer(folder).get_vocab_size()}
    known[GGUF] = len(reader.fields["tokenizer.ggml.tokens"].contents())
    found += [
        f"{name} has {count} tokens, the embedding {VOCABULARY}"
        for name, count in known.items()
        if count != VOCABULARY
    ]
    template = reader.fields["tokenizer.chat_template"].contents()
    if template != json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]:
        found.append(f"{GGUF} has another chat template than tokenizer_config.json")
    return found
