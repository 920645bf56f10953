"""Training: samples drawn from the grammar as it goes, for a fixed number of steps.

Every conversation begins at position 0, as it will when someone asks, so rows are padded and not
packed. Rows of similar length share a batch, which keeps the padding small. Only what the model
should write counts for the loss.
"""

import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from torch.optim import AdamW, Muon, Optimizer

from . import chat
from .grammar.mix import sample
from .grammar.samples import Plain, Sample
from .model import TinyTale
from .record import Record
from .tokenizer import END, train_tokenizer

IGNORED = -100
"""The label of a token that does not count for the loss."""

TOKENIZER_SAMPLES = 6000
CUT = 0.1
"""Share of answers cut at a random letter, with only the rest to be learned: a client that
continues a half-written answer cuts it where it likes, not where the tokenizer would."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How to train; the defaults are how the shipped weights came about."""

    seed: int = 20
    steps: int = 2200
    warmup: int = 50
    learning_rate: float = 6e-3
    weight_decay: float = 0.1
    outer_decay: float = 0.01
    batch_tokens: int = 4096
    pool: int = 1024
    """Samples that are sorted by length together."""


@dataclass(frozen=True, slots=True)
class Row:
    """One sample: its token ids, and the same with `IGNORED` where nothing is to be learned."""

    ids: list[int]
    labels: list[int]


def text_of(item: Sample) -> str:
    """A sample as the tokenizer will meet it."""
    return item.text if isinstance(item, Plain) else chat.render(item.messages, item.tools)


def row_of(item: Sample, tokenizer: Tokenizer, rng: Random) -> Row:
    """Tokenize a sample, read and written parts apart, as an engine does."""
    if isinstance(item, Plain):
        pairs = [("", item.text + END)]
    else:
        pairs = list(chat.turns(item.messages, item.tools))
    ids: list[int] = []
    labels: list[int] = []
    for prompt, answer in pairs:
        cut = rng.randrange(len(answer) - len(END) + 1) if rng.random() < CUT else 0
        read = tokenizer.encode(prompt + answer[:cut]).ids
        written = tokenizer.encode(answer[cut:]).ids
        ids += read + written
        labels += [IGNORED] * len(read) + written
    return Row(ids, labels)


def batches(tokenizer: Tokenizer, plan: Plan) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches of ids and labels, both (rows, length), at most `batch_tokens` each."""
    rng = Random(plan.seed)
    while True:
        rows = [row_of(sample(rng), tokenizer, rng) for _ in range(plan.pool)]
        rows.sort(key=lambda row: len(row.ids))
        groups: list[list[Row]] = [[]]
        for row in rows:
            if (len(groups[-1]) + 1) * len(row.ids) > plan.batch_tokens:
                groups.append([])
            groups[-1].append(row)
        rng.shuffle(groups)
        yield from map(padded, groups)


def padded(rows: list[Row]) -> tuple[Tensor, Tensor]:
    """Rows as two tensors; attention is causal, so padding on the right disturbs nothing."""
    length = max(len(row.ids) for row in rows)
    ids = torch.zeros(len(rows), length, dtype=torch.long)
    labels = torch.full((len(rows), length), IGNORED)
    for index, row in enumerate(rows):
        ids[index, : len(row.ids)] = torch.tensor(row.ids)
        labels[index, : len(row.labels)] = torch.tensor(row.labels)
    return ids, labels


def loss_of(model: TinyTale, ids: Tensor, labels: Tensor) -> Tensor:
    """Mean cross-entropy in nats of the tokens that count; only those meet the output layer."""
    targets = labels[:, 1:]
    counts = targets != IGNORED
    logits = model.lm_head(model.model(ids[:, :-1])[counts])
    return functional.cross_entropy(logits, targets[counts])


def rate_at(step: int, plan: Plan) -> float:
    """The share of the full learning rate at `step`: a short rise, then half a cosine to zero."""
    if step < plan.warmup:
        return (step + 1) / plan.warmup
    return 0.5 + 0.5 * math.cos(math.pi * (step - plan.warmup) / (plan.steps - plan.warmup))


def optimizers_of(model: TinyTale, plan: Plan) -> list[Optimizer]:
    """Muon for the matrices inside the layers, AdamW for embedding, output and norms.

    With AdamW alone the same loss takes about a third more steps.
    """
    inner = [p for p in model.model.layers.parameters() if p.ndim == 2]
    taken = {id(p) for p in inner}
    outer = [p for p in model.parameters() if id(p) not in taken]
    rate = plan.learning_rate
    return [
        Muon(inner, lr=rate, weight_decay=plan.weight_decay, adjust_lr_fn="match_rms_adamw"),
        AdamW(outer, lr=rate, weight_decay=plan.outer_decay, betas=(0.9, 0.95), fused=True),
    ]


def make_tokenizer(plan: Plan) -> Tokenizer:
    """The tokenizer for `plan`, from samples of its own."""
    rng = Random(plan.seed + 1)
    return train_tokenizer(text_of(sample(rng)) for _ in range(TOKENIZER_SAMPLES))


@dataclass(slots=True)
class Progress:
    """One line on standard error that tells how far training is."""

    steps: int
    began: float
    tokens: int = 0
    loss: float = float("nan")

    def update(self, step: int, loss: float, tokens: int) -> None:
        """Note a finished step; the loss shown is an average that forgets in about 50 steps."""
        self.loss = loss if math.isnan(self.loss) else 0.98 * self.loss + 0.02 * loss
        self.tokens += tokens
        if step % 20 and step != self.steps:
            return
        spent = time.monotonic() - self.began
        left = spent / step * (self.steps - step)
        sys.stderr.write(
            f"\rstep {step}/{self.steps}  loss {self.loss:.3f}  {self.tokens / 1e6:.2f} M tokens  "
            f"{self.tokens / spent:,.0f} tokens/s  {left:.0f} s left \x1b[K"
        )
        if step == self.steps:
            sys.stderr.write("\n")
        sys.stderr.flush()


@dataclass(frozen=True, slots=True)
class Trained:
    """What training gives: the parts, and how they came about."""

    model: TinyTale
    tokenizer: Tokenizer
    record: Record


def train(plan: Plan) -> Trained:
    """Train from nothing; the same plan on the same machine gives the same weights."""
    tokenizer = make_tokenizer(plan)
    model = TinyTale()
    model.initialise(plan.seed)
    optimizers = optimizers_of(model, plan)
    progress = Progress(plan.steps, time.monotonic())
    for step, (ids, labels) in zip(range(plan.steps), batches(tokenizer, plan), strict=False):
        loss = loss_of(model, ids, labels)
        model.zero_grad()
        torch.autograd.backward(loss)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in optimizers:
            for group in optimizer.param_groups:
                group["lr"] = plan.learning_rate * rate_at(step, plan)
            optimizer.step()
        progress.update(step + 1, loss.item(), ids.numel())
    record = Record(
        seed=plan.seed,
        steps=plan.steps,
        tokens=progress.tokens,
        loss=round(progress.loss, 4),
        seconds=round(time.monotonic() - progress.began),
        threads=torch.get_num_threads(),
    )
    return Trained(model, tokenizer, record)
