"""The tokenizer: byte-level BPE as in GPT-2, 2048 tokens, trained on the grammar's own text."""

import json
from collections.abc import Iterable
from pathlib import Path

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

VOCABULARY = 2048
"""Tokens in all, the added ones included."""

END_OF_TEXT, START, END = "<|endoftext|>", "<|im_start|>", "<|im_end|>"
SPECIAL = (END_OF_TEXT, START, END)
"""Tokens that frame a conversation and never appear in text handed to a client; ids 0, 1, 2."""

TOOL_CALL, TOOL_CALL_END = "<tool_call>", "</tool_call>"
MARKUP = (TOOL_CALL, TOOL_CALL_END)
"""Single tokens that stay visible, because tool-call parsers look for their text; ids 3, 4."""

UNUSED = "<|unused_"
"""How the tokens begin that only fill the vocabulary up."""


def train_tokenizer(texts: Iterable[str]) -> Tokenizer:
    """Learn the merges from `texts`; the result adds no token at the start or end of a text."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        min_frequency=2,
        special_tokens=[*SPECIAL, *MARKUP],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return finished(tokenizer)


def finished(tokenizer: Tokenizer) -> Tokenizer:
    """The same tokenizer with `MARKUP` no longer special, filled up to `VOCABULARY` tokens.

    A trainer knows only special tokens, and stops where its texts have no more pairs to merge.
    llama.cpp wants a token for every row of the embedding; those that fill up have no merge, so no
    text ever becomes one.
    """
    blob = json.loads(tokenizer.to_str())
    for token in blob["added_tokens"]:
        token["special"] = token["content"] in SPECIAL
    vocabulary = blob["model"]["vocab"]
    for filler in range(len(vocabulary), VOCABULARY):
        vocabulary[f"{UNUSED}{filler}|>"] = filler
    return Tokenizer.from_str(json.dumps(blob, ensure_ascii=False))


def load_tokenizer(folder: Path) -> Tokenizer:
    """Read `tokenizer.json` from `folder`."""
    return Tokenizer.from_file(str(folder / "tokenizer.json"))


def identity(tokenizer: Tokenizer, token: str) -> int:
    """The id of a token that must exist; raises ValueError when it does not."""
    found = tokenizer.token_to_id(token)
    if found is None:
        raise ValueError(f"the tokenizer has no {token}")
    return found
