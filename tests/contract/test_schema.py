"""Answers that are held to a schema keep it: whole, streamed, hot and cold."""

from __future__ import annotations

import json

import jsonschema
import pytest

from backends.base import Endpoint
from backends.capabilities import Capability
from gateway.conform.probes import chat
from gateway.conform.promises import streamed, text_of, whole
from tests.contract.conftest import require_capability

pytestmark = pytest.mark.asyncio(loop_scope="module")

SHORT = {"type": "string", "maxLength": 12}
SCHEMAS = {
    "choices": {"enum": ["vermilion", "ultramarine"]},
    "object": {
        "type": "object",
        "properties": {"name": SHORT, "age": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["name", "age"],
        "additionalProperties": False,
    },
    "nested": {
        "type": "object",
        "properties": {
            "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 2},
            "inner": {
                "type": "object",
                "properties": {"sure": {"type": "boolean"}, "not": {"type": "null"}},
                "required": ["sure", "not"],
                "additionalProperties": False,
            },
        },
        "required": ["tags", "inner"],
        "additionalProperties": False,
    },
    "references": {
        "$defs": {"side": {"enum": ["left", "right"]}},
        "type": "object",
        "properties": {"first": {"$ref": "#/$defs/side"}, "last": {"$ref": "#/$defs/side"}},
        "required": ["first", "last"],
        "additionalProperties": False,
    },
}


def asked(name, **more):
    form = {"name": name, "schema": SCHEMAS[name], "strict": True}
    fields = {"response_format": {"type": "json_schema", "json_schema": form}, "max_tokens": 150}
    return chat("Tell me about Zoe.", **{**fields, **more})


@pytest.mark.parametrize("temperature", [0, 1.5])
@pytest.mark.parametrize("name", SCHEMAS)
async def test_the_schema_is_kept(target, name, temperature):
    require_capability(target, Capability.JSON_SCHEMA)
    fields = asked(name, temperature=temperature, seed=5)
    said = await whole(target, Endpoint.CHAT, fields)
    assert said["choices"][0]["finish_reason"] == "stop", said
    jsonschema.validate(json.loads(text_of(said)), SCHEMAS[name])
    told = await streamed(target, Endpoint.CHAT, fields)
    jsonschema.validate(json.loads(text_of(told)), SCHEMAS[name])


async def test_an_object_and_nothing_else(target):
    require_capability(target, Capability.JSON_OBJECT)
    fields = chat("Answer as JSON: Zoe is 30 and lives in Lima.", max_tokens=60)
    said = await whole(
        target, Endpoint.CHAT, {**fields, "response_format": {"type": "json_object"}}
    )
    assert isinstance(json.loads(text_of(said)), dict)


async def test_every_choice_keeps_it(target):
    require_capability(target, Capability.JSON_SCHEMA)
    said = await whole(target, Endpoint.CHAT, asked("object", n=3, temperature=1.5, seed=5))
    for choice in said["choices"]:
        jsonschema.validate(json.loads(choice["message"]["content"]), SCHEMAS["object"])
