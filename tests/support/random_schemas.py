"""JSON Schemas that nobody would think of: nested at random, small enough to be written."""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]
_NAMES = ["name", "age", "city", "tags", "ünïcode", "with space", 'quo"te', "$dollar", "a/b~c"]


def random_schema(rng: random.Random, depth: int = 3) -> Schema:
    """A schema of an object whose values are bounded, so that an answer ends."""
    schema = _object(rng, depth)
    if rng.random() < 0.3:
        schema["$defs"] = {"part": _value(rng, 1)}
        schema["properties"]["again"] = {"$ref": "#/$defs/part"}
        schema["required"] = [*schema.get("required", []), "again"]
    return schema


def _value(rng: random.Random, depth: int) -> Schema:
    kinds = [_string, _integer, _enum, _constant, _plain, _pattern, _format]
    if depth > 0:
        kinds += [_object, _array, _any_of, _nullable]
    return rng.choice(kinds)(rng, depth - 1)


def _object(rng: random.Random, depth: int) -> Schema:
    names = rng.sample(_NAMES, rng.randint(1, 4))
    return {
        "type": "object",
        "properties": {name: _value(rng, depth - 1) for name in names},
        "required": rng.sample(names, rng.randint(0, len(names))),
        "additionalProperties": False,
    }


def _array(rng: random.Random, depth: int) -> Schema:
    least = rng.randint(0, 2)
    return {
        "type": "array",
        "items": _value(rng, depth - 1),
        "minItems": least,
        "maxItems": least + rng.randint(0, 2),
    }


def _any_of(rng: random.Random, depth: int) -> Schema:
    return {"anyOf": [_value(rng, depth - 1) for _ in range(rng.randint(2, 3))]}


def _nullable(rng: random.Random, depth: int) -> Schema:
    return {"anyOf": [_value(rng, depth - 1), {"type": "null"}]}


def _string(rng: random.Random, depth: int) -> Schema:
    least = rng.randint(0, 3)
    return {"type": "string", "minLength": least, "maxLength": least + rng.randint(0, 8)}


def _integer(rng: random.Random, depth: int) -> Schema:
    least = rng.randint(-50, 50)
    return {"type": "integer", "minimum": least, "maximum": least + rng.randint(0, 200)}


def _enum(rng: random.Random, depth: int) -> Schema:
    return {"enum": rng.sample(["red", "green", 7, None, True, 'q"u\\o', "ä€😀", 1.5], 3)}


def _constant(rng: random.Random, depth: int) -> Schema:
    return {"const": rng.choice(["fixed", 42, False, None, [1, "two"]])}


def _plain(rng: random.Random, depth: int) -> Schema:
    return {"type": rng.choice(["boolean", "null"])}


def _pattern(rng: random.Random, depth: int) -> Schema:
    return {
        "type": "string",
        "pattern": rng.choice([r"^[A-Z]{2}\d{3}$", r"^(yes|no|maybe)$", r"^[a-f0-9]{4,8}$"]),
    }


def _format(rng: random.Random, depth: int) -> Schema:
    return {"type": "string", "format": rng.choice(["date", "time", "uuid", "ipv4"])}
