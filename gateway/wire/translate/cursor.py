"""Walk over decoded JSON and know where one is: an error names the very place.

A cursor is one value of a request and the path to it, such as `messages[2].content[0].source`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NoReturn

import msgspec

from backends.malformed import MALFORMED
from gateway.errors import BadRequest, Unsupported


class Cursor:
    """A value, and where it stands."""

    __slots__ = ("path", "value")

    def __init__(self, value: Any, path: str = "") -> None:
        self.path = path
        self.value = value

    @classmethod
    def over(cls, body: bytes) -> Cursor:
        """A cursor over a request's body. Raises `BadRequest` where that is no JSON object."""
        try:
            value = msgspec.json.decode(body)
        except MALFORMED as error:
            raise BadRequest(
                f"the request body is not valid JSON: {error}", code="invalid_json"
            ) from None
        cursor = cls(value)
        cursor.fields()
        return cursor

    def text(self) -> str:
        """The value, which must be a text."""
        if not isinstance(self.value, str):
            self.wrong("must be a text")
        return self.value

    def number(self) -> int:
        """The value, which must be a whole number."""
        if not isinstance(self.value, int) or isinstance(self.value, bool):
            self.wrong("must be a whole number")
        return self.value

    def fields(self) -> dict[str, Any]:
        """The value, which must be an object."""
        if not isinstance(self.value, dict):
            self.wrong("must be an object")
        return self.value

    def items(self) -> list[Cursor]:
        """The value, which must be a list, item by item."""
        if not isinstance(self.value, list):
            self.wrong("must be a list")
        return [Cursor(one, f"{self.path}[{at}]") for at, one in enumerate(self.value)]

    def get(self, name: str) -> Cursor | None:
        """The field `name` of this object; None where it is not there, or null."""
        value = self.fields().get(name)
        return None if value is None else Cursor(value, self._below(name))

    def need(self, name: str) -> Cursor:
        """The field `name` of this object. Raises `BadRequest` without it."""
        found = self.get(name)
        if found is None:
            param = self._below(name)
            raise BadRequest(
                f"`{param}` is missing", param=param, code="missing_required_parameter"
            )
        return found

    def kind(self, default: str = "") -> str:
        """The `type` of this object."""
        kind = self.get("type")
        return default if kind is None else kind.text()

    def without(self, names: Iterable[str], why: str) -> None:
        """Refuse the request where this object has any of the fields `names`."""
        for name in names:
            found = self.get(name)
            if found is not None:
                found.unsupported(why)

    def wrong(self, what: str) -> NoReturn:
        """The client made a mistake here. Raises `BadRequest`."""
        where = f"`{self.path}`" if self.path else "the request body"
        raise BadRequest(f"{where} {what}", param=self.path or None, code="invalid_type")

    def unsupported(self, why: str) -> NoReturn:
        """This cannot be said in a chat. Raises `Unsupported`, with which a fallback is asked."""
        raise Unsupported(f"`{self.path}`: {why}", param=self.path)

    def _below(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path else name
