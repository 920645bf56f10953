"""A trace says the same in bytes and in tokens."""

from __future__ import annotations

import json

import pytest

from bench.balancing.fleet import Prompts
from bench.balancing.traces import (
    BYTES_PER_TOKEN,
    conversations,
    mixed_lengths,
    shared_prefixes,
    text,
    unshared,
)

MAKERS = [conversations, mixed_lengths, shared_prefixes, unshared]


@pytest.mark.parametrize("make", MAKERS)
def test_a_seed_makes_a_trace(make):
    assert make(30, 1) == make(30, 1)
    assert make(30, 1) != make(30, 2)


@pytest.mark.parametrize("make", MAKERS)
def test_bodies_are_as_long_as_their_tokens(make):
    for conversation in make(20, 1):
        for turn in conversation.turns:
            body = json.loads(turn.body())
            said = sum(len(message["content"]) for message in body["messages"])
            assert said == turn.work.prompt_tokens * BYTES_PER_TOKEN
            assert body["max_tokens"] == turn.work.tokens - turn.work.prompt_tokens > 0


def test_texts_differ_from_their_first_words_on():
    assert text(1, 10) == text(1, 10)
    assert len(text(1, 10)) == 40
    assert text(1, 10)[:8] != text(2, 10)[:8]


def test_arrivals_have_the_mean_gap_that_was_asked_for():
    gaps = [one.gap for one in unshared(5000, 1)]
    assert sum(gaps) / len(gaps) == pytest.approx(1.0, rel=0.05)


def test_prompts_share_blocks_where_they_share_tokens():
    prompts = Prompts()
    turns = [one.turns[0] for one in shared_prefixes(60, 1, prefixes=5, prefix_tokens=1000)]
    for one in turns:
        for other in turns:
            alike = one.work.runs[0] == other.work.runs[0]
            first, second = prompts.prefix(one), prompts.prefix(other)
            shared = sum(a == b for a, b in zip(first.blocks, second.blocks, strict=True))
            if one is not other:
                assert (shared > 0) == alike
                assert shared < len(first.blocks)


def test_each_turn_begins_with_the_one_before_and_its_answer():
    for conversation in conversations(60, 1):
        for before, after in zip(conversation.turns, conversation.turns[1:], strict=False):
            runs = before.work.runs
            assert after.work.runs[: len(runs)] == runs
            assert after.work.prompt_tokens > before.work.tokens
