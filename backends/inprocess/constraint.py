"""What an answer is held to, in words that no library owns. Pure.

Rules of this file:

- A `Constraint` says what may be written, and nothing of how an engine makes a model write it. It
  can be compared and hashed, so that what was compiled of it can be kept.
- Every schema carries the field of the request that it came from: that is what a refusal names.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

import msgspec

from backends.base import RequestRefused
from backends.inprocess.refusals import Code, refusal
from backends.malformed import MALFORMED

MAX_SCHEMA = 128 << 10
"""Bytes of one schema, and of those of a request together: a longer one could hold up the others of
its batch."""
ANY_OBJECT = '{"type":"object"}'

Compiled = Any
"""What an engine has made of a constraint; its own to read."""


class Value(msgspec.Struct, frozen=True, kw_only=True):
    """A JSON value, and what is written around it."""

    schema: str
    """A JSON Schema, as text."""
    param: str
    """The field of the request that the schema stands in."""
    begin: str = ""
    """Of a call, what follows its mark."""
    end: str = ""
    lenient: bool = False
    """Keywords of the schema that an engine cannot hold the model to are passed over."""


class Thinking(msgspec.Struct, frozen=True):
    """What a model may think aloud before its answer; nothing holds it."""

    start: str
    end: str
    opened: bool
    """It thinks already: the prompt has the start mark, or it needs none."""


class Constraint(msgspec.Struct, frozen=True, kw_only=True):
    """What an answer may be: text, the one value, or calls.

    At least one of the three must be possible; where more are, the model chooses.
    """

    text: bool = False
    """Free text, before and between calls too; where there are none, without the mark. Excludes
    `answer`."""
    answer: Value | None = None
    calls: tuple[Value, ...] = ()
    """Calls of tools, one for each tool."""
    mark: str = ""
    """What every call begins with: free text ends there. Not empty where there are calls, or where
    they are only kept out."""
    separator: str = ""
    """What stands between two calls where there is no free text."""
    several: bool = True
    """More than one call may be made."""
    thinking: Thinking | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of all its schemas, which are ASCII."""
        values = (self.answer, *self.calls)
        return sum(len(value.schema) for value in values if value is not None)

    @property
    def asked_for(self) -> bool:
        """Whether a client counts on it; else the answer is as well without, where it must be."""
        return self.answer is not None or bool(self.calls)


class CallShape(msgspec.Struct, frozen=True):
    """How a model writes a call whose arguments are a JSON object: what stands around them."""

    mark: str
    """What tells a call from text."""
    begin: str
    """From there to the name."""
    named: str
    """Between the name and the arguments."""
    end: str
    separator: str = "\n"
    """Between two calls."""

    def call(self, name: str, schema: str, param: str, *, lenient: bool) -> Value:
        """A call of the tool `name`."""
        quoted = json.dumps(name, ensure_ascii=False)[1:-1]
        begin = self.begin + quoted + self.named
        return Value(schema=schema, param=param, begin=begin, end=self.end, lenient=lenient)


class Compile(Protocol):
    """Makes an engine's own grammar; may be called from any thread, and takes long.

    Raises `RequestRefused` for what cannot be compiled.
    """

    def __call__(self, constraint: Constraint) -> Compiled:
        """The grammar."""
        ...


def blamed(constraint: Constraint) -> str:
    """The first field of the request that a constraint came from."""
    values = (constraint.answer, *constraint.calls)
    return next((value.param for value in values if value is not None), "tool_choice")


def uncompilable(param: str, reason: str) -> RequestRefused:
    """The client's schema cannot be held."""
    reason = " ".join(reason.split())[:300].rstrip(".")
    return refusal(param, f"cannot be compiled: {reason}", code=Code.INVALID_SCHEMA)


def checked_schema(schema: msgspec.Raw, param: str) -> str:
    """The text of a schema that is an object, or true; raises `RequestRefused`."""
    given = bytes(schema)
    if len(given) > MAX_SCHEMA:
        raise uncompilable(param, f"it has {len(given)} bytes, and at most {MAX_SCHEMA} are taken")
    try:
        value = json.loads(given)
    except (ValueError, *MALFORMED) as error:
        raise uncompilable(param, str(error)) from None
    if not isinstance(value, dict) and value is not True:
        raise uncompilable(param, "a JSON Schema is an object")
    # Written anew: what only differs in white space is compiled once.
    return json.dumps(value, separators=(",", ":"))
