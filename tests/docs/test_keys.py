"""docs/routing.md names every key of routing.yaml, and beside it what holds without it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from msgspec import NODEFAULT, inspect

from backends.units import Duration, Size
from gateway.config import Config
from tests.docs.conftest import read


def structs(wanted: inspect.Type) -> Iterator[type]:
    """All structs that a value of `wanted` is made of."""
    match wanted:
        case inspect.StructType():
            yield wanted.cls
            for field in wanted.fields:
                yield from structs(field.type)
        case inspect.Metadata():
            yield from structs(wanted.type)
        case inspect.UnionType():
            for one in wanted.types:
                yield from structs(one)
        case inspect.DictType():
            yield from structs(wanted.value_type)
        case inspect.VarTupleType():
            yield from structs(wanted.item_type)


def places() -> list[str]:
    """The parts of the document in which a key and its default have to stand together: rows of
    tables, examples, paragraphs."""
    found = []
    for part in re.split(r"\n\n", read("docs/routing.md")):
        rows = part.splitlines()
        found += rows if part.startswith("|") else [part]
    return found


PLACES = places()
FIELDS = {
    f"{cls.__name__}.{field.name}": field
    for cls in dict.fromkeys(structs(inspect.type_info(Config)))
    for field in msgspec.structs.fields(cls)
}


def ways(default: Any) -> list[str]:
    """How a default may be written; none for what stands for nothing."""
    match default:
        case bool():
            return ["true" if default else "false"]
        case Duration():
            seconds = float(default)
            return ["0"] if not seconds else [default.written(), f"{seconds:g}s"]
        case Size():
            return [default.written()]
        case int() | float():
            return [f"{default:g}"]
        case str():
            return [default]
    return []


def says(place: str, name: str) -> bool:
    """Whether `place` tells of the key `name`: in a code span, or in an example."""
    return re.search(rf"(?<![\w-]){name}[:`]", place) is not None


def shows(place: str, texts: list[str]) -> bool:
    return not texts or any(
        re.search(rf"(?<![\w.]){re.escape(text)}(?![\w]|\.\d)", place) for text in texts
    )


@pytest.mark.parametrize("key", FIELDS)
def test_every_key_is_told_of_with_its_default(key: str) -> None:
    field = FIELDS[key]
    told = [place for place in PLACES if says(place, field.encode_name)]
    assert told, "no key of that name stands in docs/routing.md"
    default = field.default if field.default is not NODEFAULT else None
    assert any(shows(place, ways(default)) for place in told), f"its default, {default!r}, does not"
