from __future__ import annotations

import json

import pytest

from backends.base import Endpoint
from gateway.wire.translate import TRANSLATIONS
from gateway.wire.translate.places import Said, place_of

SCHEMA = {"type": "json_schema", "schema": {"type": "object"}}
PICTURE = {"type": "input_image", "image_url": "data:image/png;base64,x"}
RESPONSES = {
    "model": "m",
    "instructions": "Be kind.",
    "input": [
        {"role": "user", "content": [{"type": "input_text", "text": "hi"}, PICTURE]},
        {"type": "reasoning", "summary": [{"text": "hm"}]},
        {"role": "assistant", "content": "Let me look."},
        {"type": "function_call", "call_id": "1", "name": "look", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "1", "output": "a cat"},
    ],
    "max_output_tokens": 9,
    "temperature": 7,
    "text": {"format": {**SCHEMA, "name": "x"}, "verbosity": "low"},
    "reasoning": {"effort": "low"},
    "include": ["message.output_text.logprobs"],
    "tools": [{"type": "function", "name": "look", "parameters": {"type": 7}}],
}
SOURCE = {"type": "base64", "media_type": "image/png", "data": "x"}
MESSAGES = {
    "model": "m",
    "max_tokens": 9,
    "system": [{"type": "text", "text": "Be kind."}],
    "messages": [
        {"role": "user", "content": [{"type": "image", "source": SOURCE}]},
        {
            "role": "assistant",
            "content": [
                {"type": "thinking", "thinking": "hm"},
                {"type": "tool_use", "id": "1", "name": "look", "input": {}},
            ],
        },
        {
            "role": "user",
            "content": [
                {"type": "tool_result", "tool_use_id": "1", "content": "a cat"},
                {"type": "text", "text": "and?"},
                {"type": "image", "source": {"type": "url", "url": "x"}},
            ],
        },
    ],
    "stop_sequences": ["x", ""],
    "metadata": {"user_id": "me"},
    "tools": [{"name": "look", "input_schema": {"type": 7}}],
    "tool_choice": {"type": "any", "disable_parallel_tool_use": True},
    "output_config": {"format": SCHEMA, "effort": "low"},
    "thinking": {"type": "enabled", "budget_tokens": 1024},
}


@pytest.mark.parametrize(
    ("of_chat", "of_client"),
    [
        ("messages", "input"),
        ("messages[0].content", "instructions"),
        ("messages[1].content[1].image_url", "input[0].content[1].image_url"),
        ("messages[1].content[1].image_url.url", "input[0].content[1].image_url"),
        ("messages[1].content[0].text", "input[0].content[0].text"),
        ("messages[2].reasoning_content", "input[2]"),
        ("messages[2].content", "input[2].content"),
        ("messages[2].tool_calls[0].function.arguments", "input[3].arguments"),
        ("messages[2].tool_calls[0].id", "input[3].call_id"),
        ("messages[3].content", "input[4].output"),
        ("messages[9].content", "input"),
        ("max_tokens", "max_output_tokens"),
        ("response_format", "text.format"),
        ("response_format.json_schema.schema", "text.format.schema"),
        ("verbosity", "text.verbosity"),
        ("reasoning_effort", "reasoning.effort"),
        ("logprobs", "include"),
        ("tools[0].function.parameters", "tools[0].parameters"),
        ("tools[0].function.parameters.type", "tools[0].parameters.type"),
        ("temperature", "temperature"),
        ("model", "model"),
        ("chat_template_kwargs", "chat_template_kwargs"),
        ("nobody knows", "nobody knows"),
        ("", ""),
    ],
)
def test_a_field_of_a_response(of_chat, of_client):
    assert _translated(Endpoint.RESPONSES, RESPONSES).place_of(of_chat) == of_client


@pytest.mark.parametrize(
    ("of_chat", "of_client"),
    [
        ("messages", "messages"),
        ("messages[0].content", "system"),
        ("messages[1].content[0].image_url", "messages[0].content[0].source"),
        ("messages[1].content[0].image_url.url", "messages[0].content[0].source"),
        ("messages[2].reasoning_content", "messages[1].content"),
        ("messages[2].tool_calls[0].function.arguments", "messages[1].content[1].input"),
        ("messages[3].content", "messages[2].content[0].content"),
        ("messages[3].tool_call_id", "messages[2].content[0].tool_use_id"),
        ("messages[4].content[0].text", "messages[2].content[1].text"),
        ("messages[4].content[1].image_url.url", "messages[2].content[2].source.url"),
        ("stop[1]", "stop_sequences[1]"),
        ("user", "metadata.user_id"),
        ("parallel_tool_calls", "tool_choice.disable_parallel_tool_use"),
        ("tools[0].function.parameters", "tools[0].input_schema"),
        ("response_format.json_schema.schema", "output_config.format.schema"),
        ("reasoning_effort", "output_config.effort"),
        ("chat_template_kwargs", "thinking"),
        ("max_tokens", "max_tokens"),
    ],
)
def test_a_field_of_a_message(of_chat, of_client):
    assert _translated(Endpoint.MESSAGES, MESSAGES).place_of(of_chat) == of_client


@pytest.mark.parametrize(
    ("given", "of_chat", "of_client"),
    [
        ({"input": "hi"}, "messages[0].content", "input"),
        ({"input": [{"role": "user", "content": "hi"}]}, "messages[0]", "input[0]"),
        (
            {"instructions": "x", "input": [{"role": "developer", "content": "y"}]},
            "messages[0].content",
            "instructions",
        ),
    ],
)
def test_places_move_with_the_instructions(given, of_chat, of_client):
    translation = _translated(Endpoint.RESPONSES, {"model": "m", **given})
    assert translation.place_of(of_chat) == of_client


def test_a_walk_goes_as_far_as_it_can():
    chat = Said("", {"a": [{"b": 1}]}, {"a": ("x", "y")})
    assert place_of("a[0].b", chat, {"y": [{"b": 1}]}) == "y[0].b"
    assert place_of("a[1].b", chat, {"y": [{"b": 1}]}) == "y"
    assert place_of("a[0].c", chat, {"y": [{"b": 1}]}) == "y[0]"
    assert place_of("a[99999999999]", chat, {"y": 7}) == "y"


def _translated(endpoint, request):
    return TRANSLATIONS[endpoint](json.dumps(request).encode())
