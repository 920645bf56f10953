"""Read what a client got."""

from __future__ import annotations

import json
from typing import Any


def events(body: str) -> list[Any]:
    """The data of a stream's events, without its `[DONE]`."""
    return [
        json.loads(line.removeprefix("data: "))
        for line in body.splitlines()
        if line.startswith("data: ") and line != "data: [DONE]"
    ]


def said(body: str) -> str:
    """The text of a streamed chat completion."""
    choices = [choice for event in events(body) for choice in event.get("choices", ())]
    return "".join(choice["delta"].get("content") or "" for choice in choices)


def is_done(body: str) -> bool:
    return body.endswith("data: [DONE]\n\n")


def error_of(body: str) -> Any:
    """The error that a broken stream ends with."""
    assert "[DONE]" not in body
    return events(body)[-1]["error"]
