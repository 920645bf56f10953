"""The same weights, four engines: a greedy prompt gets the same text from each."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.e2e.conftest import MLX, prepare
from tests.e2e.test_sdk import WEATHER
from tests.support.engines import LLAMA_CPP, LLAMA_SERVER, VLLM

ENGINES = (LLAMA_SERVER, VLLM, MLX, LLAMA_CPP)
LONG_STORY = "Tell me a long story about Mia."


def user(text: str) -> dict[str, Any]:
    return {"messages": [{"role": "user", "content": text}]}


def turns(*texts: str, system: str | None = None) -> dict[str, Any]:
    said = [
        {"role": "assistant" if at % 2 else "user", "content": text}
        for at, text in enumerate(texts)
    ]
    return {"messages": [*([{"role": "system", "content": system}] if system else []), *said]}


LONG = "".join(f"Number {number} is followed by number {number + 1}. " for number in range(40))
"""About 600 tokens."""

CHATS: dict[str, dict[str, Any]] = {
    "a fact": user("What is the capital of Peru?"),
    "a sum": user("What is 3 + 4?"),
    "counting": user("Count from 1 to 100."),
    "JSON": user("Give me a JSON object with name and age for Tom, 7."),
    "a story": user("Tell me a story about Tom."),
    "a long story": user(LONG_STORY),
    "a system prompt": turns("What is 2 + 2?", system="You are a helpful assistant."),
    "several turns": turns(
        "My name is Mia.", "Nice to meet you, Mia!", "What is 2 + 2?", "2 + 2 = 4.",
        "What is my name?",
    ),
    "tools that are not needed": {**user("What is the capital of Spain?"), "tools": [WEATHER]},
    "nothing it was trained for": user("Ünïcödé 🙂 and 日本語, please\n\n\ttwice"),
    "a long prompt": user(LONG + "Tell me a story about Leo."),
    "parts in place of a string": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "What is 5 + 3?"}]},
        ]
    },
    "a stop string": {**user("Count from 1 to 20."), "stop": [" 13"]},
}  # fmt: skip
PROMPTS = {
    "the beginning of a story": "Once upon a time, there was a",
    "a long text": LONG * 2,
}
LIMIT = 400


@pytest.fixture
def all_engines(request, house, llama_server, vllm_server, llama_cpp):
    for name in ENGINES:
        prepare(request, house, name)


async def whole(client: Any, model: str, asked: dict[str, Any]) -> tuple[str, str | None]:
    answer = await client.chat.completions.create(
        model=model, temperature=0, max_tokens=LIMIT, **asked
    )
    return answer.choices[0].message.content, answer.choices[0].finish_reason


async def streamed(client: Any, model: str, asked: dict[str, Any]) -> tuple[str, str | None]:
    text, reason = "", None
    async for chunk in await client.chat.completions.create(
        model=model, temperature=0, max_tokens=LIMIT, stream=True, **asked
    ):
        for choice in chunk.choices:
            text += choice.delta.content or ""
            reason = choice.finish_reason or reason
    return text, reason


async def test_a_long_prompt_is_long(house, all_engines):
    async with house.async_openai() as client:
        answer = await client.chat.completions.create(
            model=MLX, max_tokens=1, **CHATS["a long prompt"]
        )
        assert answer.usage.prompt_tokens >= 200


@pytest.mark.parametrize("kind", CHATS)
async def test_chat_is_the_same_from_all(house, all_engines, kind):
    async with house.async_openai() as client:
        answers = await asyncio.gather(
            *(ask(client, model, CHATS[kind]) for model in ENGINES for ask in (whole, streamed))
        )
    told = dict(
        zip(
            ((model, way) for model in ENGINES for way in ("whole", "streamed")),
            answers,
            strict=True,
        )
    )
    assert len(set(answers)) == 1, told
    assert answers[0][0], "an answer that says nothing proves nothing"


@pytest.mark.parametrize("kind", PROMPTS)
async def test_a_completion_is_the_same_from_all(house, all_engines, kind):
    async def ask(model: str) -> str:
        answer = await client.completions.create(
            model=model, prompt=PROMPTS[kind], temperature=0, max_tokens=100
        )
        return answer.choices[0].text

    async with house.async_openai() as client:
        answers = dict(zip(ENGINES, await asyncio.gather(*map(ask, ENGINES)), strict=True))
    assert len(set(answers.values())) == 1, answers


async def test_a_crowd_gets_the_same_as_one_alone(house, all_engines):
    """Batching must not change an answer: 8 at a time on each engine."""
    async with house.async_openai() as client:
        alone = await whole(client, LLAMA_SERVER, CHATS["a story"])
        crowd = await asyncio.gather(
            *(whole(client, model, CHATS["a story"]) for model in ENGINES for _ in range(8))
        )
    assert set(crowd) == {alone}
