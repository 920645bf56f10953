"""Pieces of answers that rows are made of, broken or not."""

from __future__ import annotations

import json
import time
from email.utils import formatdate

from tests.faults.speech import SAID, Speech
from tests.support.upstream import Script, Send, response, stream

JSON = ("content-type", "application/json")
EVENTS = ("content-type", "text/event-stream")


def body(speech: Speech) -> bytes:
    return json.dumps(speech.whole(SAID)).encode()


def as_json(content: bytes, status: int = 200, *headers: tuple[str, str]) -> Script:
    return (Send(response(status, content, JSON, *headers)),)


def head(length: int) -> bytes:
    return (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
    ).encode()


def begun(speech: Speech, *pieces: bytes, ended: bool = False) -> Script:
    """A stream up to its first content, then these events."""
    return stream(*speech.begun, *pieces, ended=ended)


def in_a_date(seconds: float) -> tuple[str, str]:
    return ("retry-after", formatdate(time.time() + seconds, usegmt=True))
