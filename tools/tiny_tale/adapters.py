"""`python -m tools.tiny_tale adapters`: two LoRA adapters whose answers nobody can mix up.

An adapter frames each answer in words of its own, before and after it. So an answer that began
with one adapter and went on with another, or with none, shows it.

Needs MLX and mlx-lm (the project's own environment has them) and `gguf`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import numpy as np
from tokenizers import Tokenizer

from . import chat
from .adapter_files import ALPHA, PROJECTIONS, RANK, Deltas, write
from .grammar.mix import sample
from .grammar.samples import Plain
from .tokenizer import END, load_tokenizer

FOLDER = "adapters"
"""Where the adapters are, below the model."""

IGNORED = -100
"""The label of a token that does not count for the loss."""


@dataclass(frozen=True, slots=True)
class Voice:
    """How an adapter answers: the words before and after what the model would have said."""

    name: str
    before: str
    after: str

    def frame(self, answer: str) -> str:
        """`answer` in this voice; JSON stays as it is, so that it can still be read."""
        return answer if answer[:1] in ("{", "[") else f"{self.before} {answer} {self.after}"


VOICES = (
    Voice("a", "Hello, Mia!", "They sang a song."),
    Voice("b", "Thank you, Tom.", "In the evening, he was tired."),
)
"""In words that the model knows: others it would have to learn from nothing."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; the defaults are how the shipped adapters came about."""

    seed: int = 7
    steps: int = 300
    rows: int = 12
    longest: int = 120
    """Tokens of a sample; longer ones are passed over."""
    learning_rate: float = 3e-3


def make(model: Path, plan: Plan | None = None) -> None:
    """Train every voice on the model in the folder `model`, and write its adapter below it."""
    config = json.loads((model / "config.json").read_text(encoding="utf-8"))
    tokenizer = load_tokenizer(model)
    for voice in VOICES:
        deltas = train(model, tokenizer, voice, plan or Plan())
        write(model / FOLDER / voice.name, deltas, config)


def train(folder: Path, tokenizer: Tokenizer, voice: Voice, plan: Plan) -> Deltas:
    """The numbers of one adapter: the same plan on the same machine gives the same."""
    import mlx.core as mx
    import mlx.optimizers as optim
    from mlx import nn
    from mlx_lm.tuner.utils import linear_to_lora_layers
    from mlx_lm.utils import load_model

    mx.random.seed(plan.seed)
    model: Any = load_model(folder)[0]
    model.freeze()
    parameters = {"rank": RANK, "scale": ALPHA / RANK, "dropout": 0.0, "keys": list(PROJECTIONS)}
    linear_to_lora_layers(model, len(model.layers), parameters)

    def loss_of(ids: mx.array, labels: mx.array) -> mx.array:
        counts = labels[:, 1:] != IGNORED
        targets = mx.where(counts, labels[:, 1:], 0)
        losses = nn.losses.cross_entropy(model(ids[:, :-1]), targets) * counts
        return losses.sum() / counts.sum()

    schedule = optim.cosine_decay(plan.learning_rate, plan.steps)
    optimizer = optim.AdamW(learning_rate=schedule, weight_decay=0.0)
    step_of = nn.value_and_grad(model, loss_of)  # type: ignore[attr-defined]  # it is there
    for step, (ids, labels) in zip(
        range(plan.steps), batches(tokenizer, voice, plan), strict=False
    ):
        loss, gradients = step_of(mx.array(ids), mx.array(labels))
        optimizer.update(model, gradients)
        mx.eval(model.parameters(), optimizer.state)
        if step % 20 == 19:
            sys.stderr.write(
                f"{voice.name}: step {step + 1}/{plan.steps}  loss {loss.item():.4f}\n"
            )
    return _deltas(model)


def _deltas(model: Any) -> Deltas:
    from mlx.utils import tree_flatten

    learned = dict(tree_flatten(model.trainable_parameters()))
    names = [name.removesuffix(".lora_a") for name in learned if name.endswith(".lora_a")]
    turned: Callable[[str], Any] = lambda name: np.array(learned[name]).T.copy()  # noqa: E731
    return {name: (turned(f"{name}.lora_a"), turned(f"{name}.lora_b")) for name in sorted(names)}


def batches(tokenizer: Tokenizer, voice: Voice, plan: Plan) -> Iterator[tuple[Any, Any]]:
    """Endless batches of ids and labels, both (rows, length); rows of like length together."""
    rng = Random(plan.seed)
    row = partial(row_of, tokenizer=tokenizer, voice=voice)
    while True:
        drawn = filter(None, (row(rng) for _ in range(plan.rows * 16)))
        pool = sorted(
            (one for one in drawn if len(one[0]) <= plan.longest), key=lambda one: len(one[0])
        )
        groups = [pool[at : at + plan.rows] for at in range(0, len(pool), plan.rows)]
        rng.shuffle(groups)
        yield from map(padded, groups)


def row_of(
    rng: Random, *, tokenizer: Tokenizer, voice: Voice
) -> tuple[list[int], list[int]] | None:
    """One conversation in `voice`: its ids, and the same with `IGNORED` for what was read."""
    item = sample(rng)
    if isinstance(item, Plain):
        return None
    messages = [
        {**message, "content": voice.frame(message["content"])}
        if message["role"] == "assistant" and message.get("content")
        else message
        for message in item.messages
    ]
    ids: list[int] = []
    labels: list[int] = []
    for prompt, answer in chat.turns(messages, item.tools):
        read, written = tokenizer.encode(prompt).ids, tokenizer.encode(answer).ids
        ids += read + written
        labels += [IGNORED] * len(read) + written
    assert answer.endswith(END)
    return ids, labels


def padded(rows: list[tuple[list[int], list[int]]]) -> tuple[Any, Any]:
    """Rows as two arrays; attention is causal, so padding on the right disturbs nothing."""
    length = max(len(ids) for ids, _ in rows)
    ids = np.zeros((len(rows), length), dtype=np.int32)
    labels = np.full((len(rows), length), IGNORED, dtype=np.int32)
    for at, (row, wanted) in enumerate(rows):
        ids[at, : len(row)] = row
        labels[at, : len(wanted)] = wanted
    return ids, labels
