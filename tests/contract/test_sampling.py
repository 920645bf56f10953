"""What is drawn by chance: seeds repeat, choices differ, and a cut leaves no choice."""

from __future__ import annotations

import asyncio

import pytest

from backends.base import Endpoint
from gateway.conform.probes import chat
from gateway.conform.promises import text_of, whole

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = "Tell me a long story about a fox and a bear."


async def texts(target, **fields):
    """Hot, because the tiny model is sure of itself."""
    said = await whole(target, Endpoint.CHAT, chat(LONG, **{"temperature": 1.6, **fields}))
    by_index = sorted(said["choices"], key=lambda choice: choice["index"])
    return [choice["message"]["content"] for choice in by_index]


async def test_choices_with_a_seed_differ_and_repeat(target):
    first = await texts(target, n=4, seed=3, max_tokens=24)
    assert len(set(first)) > 1
    assert await texts(target, n=4, seed=3, max_tokens=24) == first
    assert await texts(target, n=4, seed=40, max_tokens=24) != first


async def test_a_seed_says_the_same_in_a_crowd(target):
    alone = await texts(target, seed=11, max_tokens=24)
    crowd = await asyncio.gather(
        *(texts(target, seed=11 if at % 2 else at, max_tokens=24) for at in range(8))
    )
    assert all(crowd[at] == alone for at in range(1, 8, 2))


@pytest.mark.parametrize("cut", [{"top_k": 1}, {"top_p": 1e-6}, {"min_p": 1.0}])
async def test_where_one_token_is_left_it_is_the_greedy_one(target, cut):
    greedy = await texts(target, temperature=0, max_tokens=12)
    assert await texts(target, max_tokens=12, **cut) == greedy


@pytest.mark.parametrize("length", [1, 2, 5, 9])
async def test_a_stop_string_ends_the_text_wherever_it_lies(target, length):
    """Cut out of the answer at every few characters: over token borders and within tokens."""
    (text,) = await texts(target, temperature=0, max_tokens=24)
    for at in range(3, min(len(text) - length, 40), 7):
        stop = text[at : at + length]
        said = await whole(target, Endpoint.CHAT, chat(LONG, stop=stop, max_tokens=24))
        assert text_of(said) == text[: text.index(stop)], repr(stop)
        assert said["choices"][0]["finish_reason"] == "stop"
