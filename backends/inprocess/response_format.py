"""OpenAI's `response_format`: the JSON that an answer has to be. Pure."""

from __future__ import annotations

from functools import cached_property

import msgspec
from msgspec import UNSET, UnsetType

from backends.inprocess.constraint import ANY_OBJECT, Value, checked_schema
from backends.inprocess.refusals import missing, refuse, shown

_SCHEMA = "response_format.json_schema.schema"


class JsonSchema(msgspec.Struct):
    """`response_format.json_schema`; its name says nothing to an engine.

    Every answer is held to the schema, whether `strict` or not.
    """

    schema: msgspec.Raw | UnsetType = UNSET


class ResponseFormat(msgspec.Struct, dict=True):
    """`response_format`."""

    type: str
    json_schema: JsonSchema | None = None

    @cached_property
    def answer(self) -> Value | None:
        """The value to write; None for text. Raises `RequestRefused`."""
        match self.type:
            case "text":
                return None
            case "json_object":
                return Value(schema=ANY_OBJECT, param="response_format")
            case "json_schema":
                return Value(schema=self._schema(), param=_SCHEMA)
        what = f"must be 'text', 'json_object' or 'json_schema', not {shown(self.type)}"
        return refuse("response_format.type", what)

    def _schema(self) -> str:
        if self.json_schema is None or self.json_schema.schema is UNSET:
            missing(_SCHEMA)
        return checked_schema(self.json_schema.schema, _SCHEMA)
