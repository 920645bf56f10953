"""The prompt cache of a real model: what it spares, and that it changes no answer."""

import asyncio

import mlx.core as mx
import pytest
from mlx_lm.models.cache import ArraysCache, CacheList, KVCache, RotatingKVCache

from backends.inprocess.backend import ADDRESS
from backends.mlx.caches import can_be_cut, cut, nbytes
from backends.mlx.prompt_states import PromptStates

QUESTIONS = [
    "Tell me a story about Mia.",
    "What is the capital of Spain?",
    "What is 3 + 4?",
    "Count from 1 to 9.",
    "And then?",
    "Give me a JSON object with name and age for Tom, 7.",
]
NAMES = ["Mia", "Tom", "Ben", "Eva", "Leo", "Ida", "Max", "Zoe"]


def said(answer):
    return answer["choices"][0]["message"]["content"]


def cached(answer):
    return answer["usage"]["prompt_tokens_details"]["cached_tokens"]


async def chat(client, first, turns, *, start=0, **body):
    """All answers of a conversation; each turn has all that was said before it."""
    messages = [{"role": "user", "content": first}]
    answers = []
    for turn in range(turns):
        answers.append(
            await client.ask(**{"temperature": 0, "max_tokens": 30, **body}, messages=messages)
        )
        question = QUESTIONS[(start + turn) % len(QUESTIONS)]
        messages = [
            *messages,
            {"role": "assistant", "content": said(answers[-1])},
            {"role": "user", "content": question},
        ]
    return answers


async def chats(client, count, turns):
    """Many conversations at once."""
    return await asyncio.gather(
        *(
            chat(client, f"Tell me about {NAMES[n % len(NAMES)]} and {n}.", turns, start=n)
            for n in range(count)
        )
    )


@pytest.mark.slow
async def test_a_chat_pays_only_for_its_new_turns(client):
    answers = await chat(client, "Tell me a story about Mia.", 10)
    before = 0
    for answer in answers:
        # All that was there after the last turn is found again, apart from what the template
        # writes differently once an answer is a message.
        assert cached(answer) >= before - 4
        before = answer["usage"]["prompt_tokens"]
    prompts = sum(answer["usage"]["prompt_tokens"] for answer in answers)
    computed = prompts - sum(map(cached, answers))
    assert computed < answers[-1]["usage"]["prompt_tokens"] * 1.2 < prompts / 4
    load = client.backend.load(ADDRESS)
    assert (load.cache_queries, load.cache_queries - load.cache_hits) == (prompts, computed)
    assert load.cache_bytes > 0


@pytest.mark.slow
async def test_answers_are_the_same_with_it_and_without_it(open_client):
    async with open_client(max_batch=8, prompt_cache=0) as client:
        plain = await chats(client, 20, 4)
        assert client.backend.load(ADDRESS).cache_queries == 0
    async with open_client(max_batch=8) as client:
        spared = await chats(client, 20, 4)
        again = await chats(client, 20, 4)
    assert not any(cached(answer) for answers in plain for answer in answers)
    assert all(cached(answer) for answers in spared for answer in answers[1:])
    assert all(cached(answer) for answers in again for answer in answers)
    texts = [[said(answer) for answer in answers] for answers in plain]
    assert [[said(answer) for answer in answers] for answers in spared] == texts
    assert [[said(answer) for answer in answers] for answers in again] == texts


async def test_the_same_prompt_again_computes_its_last_token_only(client):
    body = {"messages": [{"role": "user", "content": "Hello!"}], "temperature": 0}
    first, second = await client.ask(**body), await client.ask(**body)
    assert (cached(first), cached(second)) == (0, first["usage"]["prompt_tokens"] - 1)
    assert said(first) == said(second)


async def test_many_at_once_may_take_the_same_beginning(client):
    story = "Tell me a long story about Tom, his dog and his friends."
    (first,) = await chat(client, story, 1)
    answers = await asyncio.gather(*(chat(client, story, 1) for _ in range(8)))
    assert {said(answer) for (answer,) in answers} == {said(first)}
    assert all(cached(answer) for (answer,) in answers)


async def test_a_salt_keeps_prompts_apart(client):
    body = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 3}
    await client.ask(**body)
    assert cached(await client.ask(**body, cache_salt="mine")) == 0
    assert cached(await client.ask(**body, cache_salt="yours")) == 0
    assert cached(await client.ask(**body, cache_salt="mine")) > 0


async def test_what_a_client_left_behind_is_kept(client):
    prompt = "Once upon a time " * 60
    reply = await client.send(prompt=prompt, stream=True, max_tokens=500, ignore_eos=True)
    await anext(reply.body)
    await reply.body.aclose()
    while client.backend.load(ADDRESS).running:
        await asyncio.sleep(0.01)
    answer = await client.ask(prompt=prompt, max_tokens=1)
    assert cached(answer) == answer["usage"]["prompt_tokens"] - 1


async def test_choices_of_one_prompt_count_it_once(client):
    body = {"messages": [{"role": "user", "content": "Hello!"}], "max_tokens": 3}
    await client.ask(**body)
    answer = await client.ask(**body, n=3)
    assert cached(answer) == answer["usage"]["prompt_tokens"] - 1


@pytest.mark.slow
async def test_it_holds_no_more_than_it_may(open_client):
    async with open_client(prompt_cache=300_000) as client:
        for name in NAMES:
            await client.ask(prompt=f"{name} went to the sea. " * 10, max_tokens=5)
        assert 0 < client.backend.load(ADDRESS).cache_bytes <= 300_000


async def test_penalties_see_the_whole_prompt(open_client):
    body = {
        "prompt": "one two three four five six seven eight",
        "temperature": 0,
        "max_tokens": 20,
        "repetition_penalty": 1.7,
        "ignore_eos": True,
    }
    async with open_client() as client:
        first = await client.ask(**body)
        second = await client.ask(**body)
    assert cached(second) > 0
    assert first["choices"] == second["choices"]


def filled(cache, tokens):
    keys = mx.arange(tokens * 8, dtype=mx.float32).reshape(1, 2, tokens, 4)
    cache.update_and_fetch(keys, keys)
    return cache


def test_cutting_leaves_the_original_as_it_was():
    whole = [filled(KVCache(), 10), CacheList(filled(KVCache(), 10), filled(KVCache(), 10))]
    shorter = cut(whole, 4)
    assert (shorter[0].offset, shorter[1].caches[0].offset) == (6, 6)
    assert (whole[0].offset, whole[1].caches[0].offset) == (10, 10)
    assert shorter[0].keys is whole[0].keys
    assert cut(whole, 0) is whole


def test_windows_and_states_cannot_be_cut():
    assert can_be_cut([filled(KVCache(), 3), filled(RotatingKVCache(max_size=8), 5)])
    assert not can_be_cut([filled(RotatingKVCache(max_size=4), 9)])
    state = ArraysCache(1)
    state[0] = mx.zeros((1, 4))
    assert not can_be_cut([filled(KVCache(), 3), state])
    assert nbytes([state]) == 16


def test_a_window_that_has_moved_on_serves_what_goes_on_from_it():
    states = PromptStates(1 << 20)
    states.keep(None, [1, 2, 3, 4, 5, 6], [filled(RotatingKVCache(max_size=4), 6)])
    assert states.find(None, [1, 2, 3, 9]) == (None, [])
    caches, tokens = states.find(None, [1, 2, 3, 4, 5, 6, 7])
    assert (caches[0].offset, tokens) == (6, [1, 2, 3, 4, 5, 6])


def test_without_room_nothing_is_looked_up():
    states = PromptStates(0)
    states.keep(None, [1, 2], [filled(KVCache(), 2)])
    assert states.find(None, [1, 2, 3]) == (None, [])
    assert states.counts == (0, 0, 0)
