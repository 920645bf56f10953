"""OpenAI's `response_format`: the JSON that an answer has to be. Pure."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from backends.base import RequestRefused
from backends.inprocess.constraint import ANY_OBJECT, Value, checked_schema

_SCHEMA = "response_format.json_schema.schema"


class JsonSchema(msgspec.Struct):
    """`response_format.json_schema`; its name says nothing to an engine.

    Every answer is held to the schema, whether `strict` or not.
    """

    schema: msgspec.Raw | UnsetType = UNSET


class ResponseFormat(msgspec.Struct):
    """`response_format`."""

    type: str
    json_schema: JsonSchema | None = None

    def answer(self) -> Value | None:
        """The value to write; None for text. Raises `RequestRefused`."""
        match self.type:
            case "text":
                return None
            case "json_object":
                return Value(schema=ANY_OBJECT, param="response_format")
            case "json_schema":
                return Value(schema=self._schema(), param=_SCHEMA)
        raise RequestRefused(
            400,
            f"response_format.type may be text, json_object or json_schema, not {self.type!r}.",
            param="response_format.type",
        )

    def _schema(self) -> str:
        if self.json_schema is None or self.json_schema.schema is UNSET:
            raise RequestRefused(400, f"{_SCHEMA} is missing.", param=_SCHEMA)
        return checked_schema(self.json_schema.schema, _SCHEMA)
