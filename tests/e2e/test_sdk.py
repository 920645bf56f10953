"""OpenAI's SDK, sync and async, through the gateway to each engine."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import openai
import pydantic
import pytest

from tests.e2e.conftest import MLX

CAPITAL = [{"role": "user", "content": "What is the capital of Spain?"}]
COUNT = [{"role": "user", "content": "Count from 1 to 10."}]
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a given city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city"}},
            "required": ["city"],
        },
    },
}
ALMOST_GREEDY = 1e-3
"""vLLM refuses more than one choice where chance has no part in it."""
ASK_WEATHER = [{"role": "user", "content": "What is the weather in Paris?"}]


def text_of(chunks: list[Any], choice: int = 0) -> str:
    return "".join(
        one.delta.content or "" for chunk in chunks for one in chunk.choices if one.index == choice
    )


async def test_chat(sdk, engine):
    answer = await sdk(
        lambda c: c.chat.completions.create(model=engine, messages=CAPITAL, temperature=0)
    )
    assert answer.object == "chat.completion"
    assert answer.model == engine
    choice = answer.choices[0]
    assert choice.message.role == "assistant"
    assert choice.message.content == "The capital of Spain is Madrid."
    assert choice.finish_reason == "stop"
    assert answer.usage.prompt_tokens > 5
    assert answer.usage.completion_tokens > 3
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


async def test_chat_stream(sdk, engine):
    chunks = await sdk.stream(
        lambda c: c.chat.completions.create(
            model=engine, messages=COUNT, temperature=0, stream=True
        )
    )
    assert text_of(chunks) == "1, 2, 3, 4, 5, 6, 7, 8, 9, 10."
    assert {chunk.model for chunk in chunks} == {engine}
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert len({chunk.id for chunk in chunks}) == 1
    reasons = [one.finish_reason for chunk in chunks for one in chunk.choices]
    assert reasons[-1] == "stop"
    assert not any(reasons[:-1])
    assert len([chunk for chunk in chunks if text_of([chunk])]) > 5, "it came in pieces"


async def test_usage_in_a_stream(sdk, engine):
    chunks = await sdk.stream(
        lambda c: c.chat.completions.create(
            model=engine,
            messages=COUNT,
            temperature=0,
            stream=True,
            stream_options={"include_usage": True},
        )
    )
    assert chunks[-1].choices == []
    assert chunks[-1].usage.completion_tokens > 10
    assert all(chunk.choices for chunk in chunks[:-1])


async def test_the_token_limit_is_the_engines(sdk, engine):
    answer = await sdk(
        lambda c: c.chat.completions.create(
            model=engine, messages=COUNT, temperature=0, max_completion_tokens=4
        )
    )
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.completion_tokens == 4


async def test_completion(sdk, engine):
    answer = await sdk(
        lambda c: c.completions.create(
            model=engine, prompt="Once upon a time, there was", temperature=0, max_tokens=12
        )
    )
    assert answer.object == "text_completion"
    assert answer.model == engine
    assert len(answer.choices[0].text) > 10
    assert answer.usage.completion_tokens == 12


async def test_completion_stream(sdk, engine):
    asked = {"model": engine, "prompt": "Once upon a time, there was", "max_tokens": 12}
    whole = await sdk(lambda c: c.completions.create(**asked, temperature=0))
    chunks = await sdk.stream(lambda c: c.completions.create(**asked, temperature=0, stream=True))
    pieces = [one.text for chunk in chunks for one in chunk.choices]
    assert "".join(pieces) == whole.choices[0].text
    assert {chunk.model for chunk in chunks} == {engine}


async def test_a_tool_call_comes_back(sdk, engine):
    answer = await sdk(
        lambda c: c.chat.completions.create(
            model=engine, messages=ASK_WEATHER, tools=[WEATHER], temperature=0
        )
    )
    choice = answer.choices[0]
    assert choice.finish_reason == "tool_calls"
    call = choice.message.tool_calls[0]
    assert call.type == "function"
    assert call.function.name == "get_weather"
    assert call.function.arguments.replace(" ", "") == '{"city":"Paris"}'
    assert call.id


async def test_a_tool_call_comes_back_in_a_stream(sdk, engine):
    chunks = await sdk.stream(
        lambda c: c.chat.completions.create(
            model=engine, messages=ASK_WEATHER, tools=[WEATHER], temperature=0, stream=True
        )
    )
    calls = [
        call for chunk in chunks for one in chunk.choices for call in one.delta.tool_calls or ()
    ]
    assert "".join(call.function.name or "" for call in calls) == "get_weather"
    arguments = "".join(call.function.arguments or "" for call in calls)
    assert arguments.replace(" ", "") == '{"city":"Paris"}'
    assert chunks[-1].choices[0].finish_reason == "tool_calls"


async def test_a_tool_result_becomes_an_answer(sdk, engine):
    call = {"name": "get_weather", "arguments": '{"city": "Paris"}'}
    turns = [
        *ASK_WEATHER,
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        },
        {
            "role": "tool",
            "tool_call_id": "call_1",
            "content": '{"temperature": 18, "condition": "sunny"}',
        },
    ]
    answer = await sdk(
        lambda c: c.chat.completions.create(
            model=engine, messages=turns, tools=[WEATHER], temperature=0
        )
    )
    assert answer.choices[0].message.content == "It is 18 degrees and sunny in Paris."


async def test_several_choices(sdk, engine):
    answer = await sdk(
        lambda c: c.chat.completions.create(
            model=engine, messages=CAPITAL, temperature=ALMOST_GREEDY, n=2
        )
    )
    assert [choice.index for choice in answer.choices] == [0, 1]
    assert {one.message.content for one in answer.choices} == {"The capital of Spain is Madrid."}


async def test_several_choices_in_a_stream(sdk, engine):
    chunks = await sdk.stream(
        lambda c: c.chat.completions.create(
            model=engine, messages=CAPITAL, temperature=ALMOST_GREEDY, n=2, stream=True
        )
    )
    assert text_of(chunks, 0) == text_of(chunks, 1) == "The capital of Spain is Madrid."
    ends = [one.index for chunk in chunks for one in chunk.choices if one.finish_reason]
    assert sorted(ends) == [0, 1]


SCHEMA = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}
STRUCTURED = {"type": "json_schema", "json_schema": {"name": "person", "schema": SCHEMA}}
ASK_JSON = [{"role": "user", "content": "Give me a JSON object with name and age for Tom, 7."}]


async def test_structured_output(sdk, engine):
    answer = await sdk(
        lambda c: c.chat.completions.create(
            model=engine, messages=ASK_JSON, temperature=0, response_format=STRUCTURED
        )
    )
    assert answer.choices[0].message.content.replace(" ", "") == '{"name":"Tom","age":7}'


class Person(pydantic.BaseModel):
    """What the SDK makes a strict schema of, and reads the answer with."""

    name: str
    age: Annotated[int, pydantic.Field(ge=0, le=120)]
    mood: Literal["happy", "sad"] | None


async def test_an_answer_is_parsed_into_the_clients_own_type(sdk):
    answer = await sdk(
        lambda c: c.chat.completions.parse(
            model=MLX, messages=CAPITAL, temperature=0, max_tokens=200, response_format=Person
        )
    )
    assert isinstance(answer.choices[0].message.parsed, Person)


async def test_a_forced_call_is_parsed_into_the_clients_own_type(sdk):
    tool = openai.pydantic_function_tool(Person, name="introduce")
    answer = await sdk(
        lambda c: c.chat.completions.parse(
            model=MLX,
            messages=CAPITAL,
            temperature=0,
            tools=[tool],
            tool_choice="required",
            parallel_tool_calls=False,
            max_tokens=200,
        )
    )
    (call,) = answer.choices[0].message.tool_calls
    assert isinstance(call.function.parsed_arguments, Person)


async def test_a_schema_that_cannot_be_compiled_names_the_field(sdk):
    broken = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "nope"}}}
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk(
            lambda c: c.chat.completions.create(
                model=MLX, messages=ASK_JSON, response_format=broken
            )
        )
    assert refused.value.param == "response_format.json_schema.schema"


async def test_logprobs(sdk, engine):
    answer = await sdk(
        lambda c: c.chat.completions.create(
            model=engine, messages=CAPITAL, temperature=0, logprobs=True, top_logprobs=2
        )
    )
    told = answer.choices[0].logprobs.content
    assert len(told) >= answer.usage.completion_tokens - 1
    assert all(token.logprob <= 0 and len(token.top_logprobs) == 2 for token in told)


async def test_the_bytes_of_logprobs_are_those_of_the_answer(sdk):
    chunks = await sdk.stream(
        lambda c: c.chat.completions.create(
            model=MLX, messages=COUNT, temperature=0, logprobs=True, stream=True
        )
    )
    told = [
        entry
        for chunk in chunks
        for choice in chunk.choices
        if choice.logprobs is not None
        for entry in choice.logprobs.content
    ]
    assert b"".join(bytes(entry.bytes) for entry in told).decode() == text_of(chunks)


async def test_fields_that_the_gateway_does_not_know_reach_the_engine(sdk, engine):
    """`ignore_eos` is no field of OpenAI's: without it the answer would end by itself."""
    answer = await sdk(
        lambda c: c.chat.completions.create(
            model=engine,
            messages=CAPITAL,
            temperature=0,
            max_tokens=40,
            extra_body={"ignore_eos": True},
        )
    )
    assert answer.usage.completion_tokens == 40


async def test_an_alias_is_reported_back_as_it_was_asked_for(sdk, engine):
    for alias in (f"{engine}-alias", f"org/{engine}"):
        answer = await sdk(
            lambda c, alias=alias: c.chat.completions.create(
                model=alias, messages=CAPITAL, temperature=0
            )
        )
        assert answer.model == alias
        chunks = await sdk.stream(
            lambda c, alias=alias: c.chat.completions.create(
                model=alias, messages=CAPITAL, temperature=0, stream=True
            )
        )
        assert {chunk.model for chunk in chunks} == {alias}


async def test_what_the_gateway_adds_to_the_headers(sdk, engine):
    raw = await sdk(
        lambda c: c.chat.completions.with_raw_response.create(
            model=engine,
            messages=CAPITAL,
            temperature=0,
            extra_headers={"x-request-id": "mine-1"},
        )
    )
    assert raw.headers["x-request-id"] == "mine-1"
    assert raw.headers["x-gateway-variant"] == "default"
    assert raw.headers["x-gateway-replica"].startswith(f"{engine}@")
    assert raw.headers["x-gateway-attempts"] == "1"
    assert int(raw.headers["openai-processing-ms"]) >= 0
    assert "server" not in raw.headers


async def test_models(sdk, house):
    names = [model.id for model in (await sdk(lambda c: c.models.list())).data]
    assert {MLX, f"{MLX}-alias", f"org/{MLX}"} <= set(names)
    for name in (MLX, f"org/{MLX}"):
        found = await sdk(lambda c, name=name: c.models.retrieve(name))
        assert (found.id, found.object) == (name, "model")
