"""Tool calls: the same whole and streamed, forced and chosen, by every engine that has them."""

from __future__ import annotations

import json

import pytest

from backends.base import Endpoint
from backends.capabilities import Capability
from gateway.conform.asking import ask
from gateway.conform.probes import chat
from gateway.conform.promises import streamed, whole
from tests.contract.conftest import IN_PROCESS, require_capability

pytestmark = pytest.mark.asyncio(loop_scope="module")

OSLO = "What is the weather in Oslo?"


def tool(name, **properties):
    parameters = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


WEATHER = tool("get_weather", city={"type": "string"})
ADD = tool("add", a={"type": "integer"}, b={"type": "integer"})
NAMED = {"type": "function", "function": {"name": "get_weather"}}


def calls(said):
    """The calls of the first choice: names, and arguments read."""
    made = said["choices"][0]["message"].get("tool_calls") or []
    return [(one["function"]["name"], json.loads(one["function"]["arguments"])) for one in made]


def asked(**more):
    return chat(OSLO, tools=[WEATHER, ADD], max_tokens=128, **more)


async def test_a_call_whole_and_streamed(target):
    said = await whole(target, Endpoint.CHAT, asked())
    assert calls(said) == [("get_weather", {"city": "Oslo"})]
    assert said["choices"][0]["finish_reason"] == "tool_calls"
    assert not said["choices"][0]["message"]["content"]
    told = await streamed(target, Endpoint.CHAT, asked())
    assert calls(told) == calls(said)
    assert told["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize("choice", ["required", NAMED], ids=["required", "named"])
async def test_a_call_that_must_be(target, choice):
    require_capability(target, Capability.FORCED_TOOLS)
    said = await whole(target, Endpoint.CHAT, asked(tool_choice=choice))
    assert calls(said)[0] == ("get_weather", {"city": "Oslo"})
    told = await streamed(target, Endpoint.CHAT, asked(tool_choice=choice))
    assert calls(told) == calls(said)


async def test_no_call_where_none_is_wanted(target, engine):
    said = await whole(target, Endpoint.CHAT, asked(tool_choice="none"))
    assert calls(said) == []
    if engine in IN_PROCESS:  # others give its text
        assert "<tool_call>" not in said["choices"][0]["message"]["content"]
        assert said["choices"][0]["finish_reason"] == "stop"


async def test_the_tools_stay_in_the_prompt_where_no_call_is_wanted(target):
    """Earlier turns begin in the same way, and are not computed anew."""
    prompts = [
        (await whole(target, Endpoint.CHAT, asked(tool_choice=choice)))["usage"]["prompt_tokens"]
        for choice in ("auto", "none")
    ]
    assert prompts[0] == prompts[1]


async def test_a_tool_without_a_name(target):
    broken = {"type": "function", "function": {"parameters": {}}}
    answer = await ask(target, Endpoint.CHAT, chat(OSLO, tools=[broken]))
    assert 400 <= answer.status < 500, answer


async def test_a_choice_of_a_tool_that_is_not_there(target):
    choice = {"type": "function", "function": {"name": "fly"}}
    answer = await ask(target, Endpoint.CHAT, asked(tool_choice=choice))
    assert 400 <= answer.status < 500, answer
