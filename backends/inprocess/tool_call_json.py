"""Tool calls that are JSON objects: read whole, or followed while they are written. Pure.

The object has a `name` and `arguments`, which Llama calls `parameters`.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import msgspec

from backends.malformed import MALFORMED

HEAD = re.compile(r'\s*\{\s*"name"\s*:\s*"([^"\\]+)"\s*,\s*"(?:arguments|parameters)"\s*:\s*(?=\{)')
"""A call up to its arguments, in the order in which models are taught to write it."""
TAIL = re.compile(r"\s*\}")
"""What closes a call after its arguments."""
_OUTSIDE_STRING = re.compile(r'["{}\[\]]')
_INSIDE_STRING = re.compile(r'["\\]')


_NOTHING = msgspec.Raw()


class WrittenCall(NamedTuple):
    """A call as a model wrote it."""

    name: str
    arguments: str
    """A JSON object, as text."""


class _Written(msgspec.Struct):
    name: str
    arguments: msgspec.Raw = _NOTHING
    parameters: msgspec.Raw = _NOTHING


_decode_call = msgspec.json.Decoder(_Written).decode
_decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode


class ObjectEnd:
    """Finds the end of a JSON object that comes in pieces, the first of which begins with `{`."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = False
        self._escaped = False

    def feed(self, text: str) -> int:
        """Where in `text` the object ends: behind its last brace; -1 if it goes on."""
        at = 0
        while at < len(text):
            if self._escaped:
                self._escaped = False
                at += 1
                continue
            found = (_INSIDE_STRING if self._in_string else _OUTSIDE_STRING).search(text, at)
            if found is None:
                return -1
            at = found.end()
            match found.group():
                case '"':
                    self._in_string = not self._in_string
                case "\\":
                    self._escaped = True
                case "{" | "[":
                    self._depth += 1
                case _:
                    self._depth -= 1
                    if self._depth <= 0:
                        return at
        return -1


def is_object(text: str) -> bool:
    """Whether `text` is a JSON object."""
    try:
        _decode_object(text.encode())
    except (*MALFORMED, UnicodeEncodeError):
        return False
    return True


def parse_json_call(text: str) -> WrittenCall:
    """The call that `text` is, with the arguments as they were written.

    Arguments that are a string with an object in it, as some templates teach it, are that object.
    Raises `ValueError` for text that is no call.
    """
    try:
        call = _decode_call(text.encode())
        arguments = bytes(call.arguments or call.parameters).decode() or "{}"
        if arguments.startswith('"'):
            arguments = _decode_text(arguments)
        _decode_object(arguments.encode())
    except (*MALFORMED, UnicodeEncodeError) as error:
        raise ValueError(f"no tool call: {error}") from error
    return WrittenCall(call.name, arguments)
