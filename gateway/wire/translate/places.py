"""Where in a client's request stands what an engine says of the chat that was made of it.

An engine names a field of the chat, such as `messages[1].content[0].image_url`; the client has
sent no such thing. Pure, and done for refusals only: the request is translated once more for it,
because what has been made of it is not kept.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

_STEP = re.compile(r"\[(?P<at>\d+)\]|(?:^|\.)(?P<name>[^.\[\]]+)")

Names = Mapping[str, Sequence[str]]
"""What fields of the chat are made of, the likeliest first, as paths within the client's object."""

Step = str | int


class Said(dict[str, Any]):
    """An object of the chat, and the path of what it was made of in the client's request."""

    __slots__ = ("names", "path")

    def __init__(self, path: str, fields: Mapping[str, Any], names: Names | None = None) -> None:
        super().__init__(fields)
        self.path = path
        self.names: Names = names or {}


def place_of(param: str, chat: Said, request: Mapping[str, Any]) -> str:
    """The path in `request` of what stands at `param` in `chat`.

    Where it has no such field, the nearest one that it lies in; `param` itself where there is none.
    """
    at: Any = chat
    names, place = chat.names, chat.path
    for step in _steps(param):
        at = _child(at, step)
        if isinstance(at, Said):
            names, place = at.names, at.path
        else:
            made_of = names.get(step, (step,)) if isinstance(step, str) else (step,)
            below = [_join(place, one) for one in made_of]
            place = next((one for one in below if _has(request, one)), place)
    return place or param


def _steps(path: str) -> list[Step]:
    return [int(found["at"]) if found["at"] else found["name"] for found in _STEP.finditer(path)]


def _join(path: str, step: Step) -> str:
    if isinstance(step, int):
        return f"{path}[{step}]"
    return f"{path}.{step}" if path else step


def _child(value: Any, step: Step) -> Any:
    if isinstance(value, dict):
        return value.get(step)
    if isinstance(value, list) and isinstance(step, int) and step < len(value):
        return value[step]
    return None


def _has(request: Mapping[str, Any], path: str) -> bool:
    at: Any = request
    for step in _steps(path):
        at = _child(at, step)
    return at is not None
