"""Requests of a round begin alike only where they shall."""

from __future__ import annotations

import asyncio
from random import Random

import pytest

from bench.balancing.real.load import SHARED, UNSHARED, Round, ask_by_the_clock, ask_in_turn, bodies
from bench.throughput.client import Reply


def beginnings(asked):
    return {body["messages"][0]["content"][:200] for body in asked}


def test_shared_prompts_begin_in_so_many_ways():
    asked = bodies(SHARED, "m", 100, "1")
    assert len(asked) == 100
    assert len(beginnings(asked)) == SHARED.prefixes
    assert len({str(body["messages"]) for body in asked}) == len(asked)


def test_unshared_prompts_all_differ():
    asked = bodies(UNSHARED, "m", 100, "1")
    assert len(beginnings(asked)) == len(asked)


def questions(asked):
    return {body["messages"][-1]["content"] for body in asked}


def test_rounds_have_their_prefixes_in_common_and_no_question():
    one, other = (bodies(SHARED, "m", 100, seed) for seed in "12")
    assert beginnings(one) == beginnings(other)
    assert questions(one).isdisjoint(questions(other))
    assert bodies(SHARED, "m", 100, "1") == one


def test_a_round_adds_up_its_slices():
    found = Round(waits=[3.0, 1.0, 2.0])
    for cached in (30, 50):
        found.note([Reply(1.0, [], 5, "", prompt_tokens=100, cached=cached)])
    assert (found.prompt_tokens, found.cached_tokens) == (200, 80)
    assert (found.wait(0.5), found.wait(0.95)) == (2.0, 3.0)


@pytest.fixture
def asked_at(monkeypatch):
    """Every request is answered at once; how many were on their way at a time."""
    at_once = []
    now = 0

    async def ask(port, body):
        nonlocal now
        now += 1
        at_once.append(now)
        await asyncio.sleep(0)
        now -= 1
        return body

    monkeypatch.setattr("bench.balancing.real.load.ask", ask)
    return at_once


async def test_the_closed_loop_asks_so_many_at_a_time(asked_at):
    assert sorted(await ask_in_turn(0, range(20), 4)) == list(range(20))
    assert max(asked_at) == 4


async def test_the_open_loop_asks_all_in_their_order(asked_at):
    assert await ask_by_the_clock(0, range(20), 10_000.0, Random(1)) == list(range(20))
