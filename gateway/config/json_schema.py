"""The JSON Schema of routing.yaml, for editors; made from the structs and their docstrings.

Written over `msgspec.inspect` rather than `msgspec.json.schema`, because everywhere a value is
wanted, a `${NAME}` may stand, and every key is to carry its docstring.
"""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import msgspec
from msgspec.inspect import (
    BoolType,
    CustomType,
    DictType,
    EnumType,
    Field,
    FloatType,
    IntType,
    LiteralType,
    Metadata,
    NoneType,
    StrType,
    StructType,
    Type,
    UnionType,
    VarTupleType,
    type_info,
)

from backends.secret import Secret
from backends.units import DURATION_PATTERN, SIZE_PATTERN, Duration, Size, Timeout
from gateway.config.key_hash import SHORTEST, KeyHash
from gateway.config.structs import Config

Schema = dict[str, Any]

_REFERENCE: Schema = {"type": "string", "pattern": r"\$\{[A-Za-z_][A-Za-z0-9_]*(:-[^}]*)?\}"}
"""A value with a `${NAME}` in it: it may stand where a number or a choice is wanted."""

_ZERO: Schema = {"const": 0}
_DURATION: Schema = {
    "type": "string",
    "pattern": DURATION_PATTERN,
    "examples": ["250ms", "2s", "10m", "1h"],
}
_SIZE: Schema = {
    "type": "string",
    "pattern": SIZE_PATTERN,
    "examples": ["64KiB", "32MB", "1GiB"],
}
_CUSTOM: dict[type, list[Schema]] = {
    Duration: [_DURATION, _ZERO, _REFERENCE],
    Timeout: [_DURATION, _REFERENCE],
    Size: [_SIZE, _ZERO, _REFERENCE],
    KeyHash: [{"type": "string", "minLength": SHORTEST}, {"type": "integer"}, _REFERENCE],
    Secret: [{"type": "string", "minLength": 1}, {"type": "integer"}],
}


def schema() -> Schema:
    """Build the schema (draft 2020-12) with a description of every key."""
    generator = _Generator()
    root = generator.of(type_info(Config))
    generator.definitions["Config"]["patternProperties"] = {"^x-": {}}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "routing.yaml of the LLM gateway",
        **root,
        "$defs": generator.definitions,
    }


class _Generator:
    def __init__(self) -> None:
        self.definitions: dict[str, Schema] = {}

    def of(self, kind: Type) -> Schema:
        match kind:
            case Metadata():
                return {**(kind.extra_json_schema or {}), **self.of(kind.type)}
            case StructType():
                return self._struct(kind)
            case UnionType():
                return _either([self.of(one) for one in kind.types])
            case DictType():
                names = _string(kind.key_type)
                known = {"minProperties": kind.min_length} if kind.min_length else {}
                names = {"propertyNames": names} if names else {}
                values = self.of(kind.value_type)
                return {"type": "object", "additionalProperties": values, **names, **known}
            case VarTupleType():
                known = {"minItems": kind.min_length} if kind.min_length else {}
                return {"type": "array", "items": self.of(kind.item_type), **known}
            case CustomType():
                return {"anyOf": _CUSTOM[kind.cls]}
        return _scalar(kind)

    def _struct(self, kind: StructType) -> Schema:
        name = kind.cls.__name__
        if name not in self.definitions:
            self.definitions[name] = {}  # taken, so that a struct may refer to itself
            self.definitions[name] = self._definition(kind)
        return {"$ref": f"#/$defs/{name}"}

    def _definition(self, kind: StructType) -> Schema:
        said = _docstrings(kind.cls)
        properties = {
            field.encode_name: {
                **self.of(field.type),
                **({"description": said[field.name]} if field.name in said else {}),
                **_default(field),
            }
            for field in kind.fields
        }
        required = [field.encode_name for field in kind.fields if field.required]
        if kind.tag_field is not None:
            tag = {"const": kind.tag, "description": "The kind of engine."}
            properties = {kind.tag_field: tag, **properties}
            required = [kind.tag_field, *required]
        return {
            "type": "object",
            "description": inspect.cleandoc(kind.cls.__doc__ or ""),
            "properties": properties,
            "required": required,
            "additionalProperties": False,
        }


def _either(options: list[Schema]) -> Schema:
    """Options side by side, those that are choices themselves written out."""
    return {"anyOf": [one for option in options for one in option.get("anyOf", [option])]}


def _scalar(kind: Type) -> Schema:
    match kind:
        case BoolType():
            return {"anyOf": [{"type": "boolean"}, _REFERENCE]}
        case IntType() | FloatType():
            what = "integer" if isinstance(kind, IntType) else "number"
            bounds = {"minimum": kind.ge, "maximum": kind.le}
            known = {name: bound for name, bound in bounds.items() if bound is not None}
            return {"anyOf": [{"type": what, **known}, _REFERENCE]}
        case LiteralType():
            return {"anyOf": [{"enum": list(kind.values)}, _REFERENCE]}
        case EnumType():
            return {"anyOf": [{"enum": [one.value for one in kind.cls]}, _REFERENCE]}
        case NoneType():
            return {"type": "null"}
        case StrType(pattern=None):
            return _string(kind)
        case StrType():
            return {"anyOf": [_string(kind), _REFERENCE]}
    raise TypeError(f"no schema for a {kind}")


def _string(kind: Type) -> Schema:
    """The schema of text that is taken as it stands."""
    if isinstance(kind, Metadata):
        return {**(kind.extra_json_schema or {}), **_string(kind.type)}
    if not isinstance(kind, StrType):
        raise TypeError(f"expected text, found {kind}")
    known = {"minLength": kind.min_length, "maxLength": kind.max_length, "pattern": kind.pattern}
    return {"type": "string", **{key: value for key, value in known.items() if value is not None}}


def _default(field: Field) -> Schema:
    """What an editor shows as the default: nothing for whole sections, their keys have theirs."""
    match field.default:
        case Duration() | Size():
            return {"default": field.default.written()}
        case bool() | int() | float() | str():
            return {"default": field.default}
    return {}


def _docstrings(cls: type) -> dict[str, str]:
    """The strings that follow the fields of `cls` and of its bases in their source."""
    found: dict[str, str] = {}
    for base in reversed(cls.__mro__):
        if not issubclass(base, msgspec.Struct) or base is msgspec.Struct:
            continue
        module = ast.parse(textwrap.dedent(inspect.getsource(base)))
        for statements in (one.body for one in module.body if isinstance(one, ast.ClassDef)):
            found.update(_documented(statements))
    return found


def _documented(statements: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for field, after in pairwise(statements):
        match field, after:
            case (
                ast.AnnAssign(target=ast.Name(id=name)),
                ast.Expr(value=ast.Constant(value=str(text))),
            ):
                yield name, inspect.cleandoc(text)
