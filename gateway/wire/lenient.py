"""Decode what an engine sent without being stricter than its clients are.

The gateway only looks on: a count that is `12.0` or a field that is null is no reason to throw
a sound answer away. So a field of another type than expected counts as one that is not there,
and an object that should be there and is not as an empty one. Bytes that are no JSON stay an
error. What is as expected costs a try; the rest is decoded once more, as it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, TypeVar, get_args, get_origin

import msgspec

S = TypeVar("S", bound=msgspec.Struct)


def decoder(struct: type[S]) -> Callable[[bytes], S]:
    """A function from JSON to `struct`, all fields of which have defaults.

    It raises what is in `MALFORMED`, but no `msgspec.ValidationError`.
    """
    strict = msgspec.json.Decoder(struct).decode

    def decode(data: bytes) -> S:
        try:
            return strict(data)
        except msgspec.ValidationError:
            return _struct(msgspec.json.decode(data), struct)

    return decode


_fields = cache(msgspec.structs.fields)
"""What a type says never changes; finding it out takes long."""


def _struct(value: Any, struct: type[S]) -> S:
    if not isinstance(value, dict):
        return struct()
    fields = {}
    for field in _fields(struct):
        if field.encode_name in value:
            fitting = _fitting(value[field.encode_name], field.type)
            if fitting is not None:
                fields[field.name] = fitting
    return struct(**fields)


def _fitting(value: Any, wanted: Any) -> Any:
    """`value` as the type `wanted`, or as much of it as fits; None where nothing does."""
    try:
        return msgspec.convert(value, wanted, strict=False)
    except msgspec.ValidationError:
        pass
    for kind in (wanted, *get_args(wanted)):
        if isinstance(value, list) and get_origin(kind) is list:
            (item,) = get_args(kind)
            return [part for part in (_fitting(one, item) for one in value) if part is not None]
        if isinstance(value, dict) and isinstance(kind, type) and issubclass(kind, msgspec.Struct):
            return _struct(value, kind)
    return None
