"""What a conversation begins with: the same bytes in each of its turns."""

from __future__ import annotations

import msgspec

from backends.malformed import MALFORMED
from gateway.wire.peek import Peek

_ENOUGH = 16 << 10
"""Bytes of the first turns that tell conversations apart."""
_ENOUGH_TEXT = 256
"""The same of a text without turns, which grows at its end: a longer part would change with it."""

_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode


class _Role(msgspec.Struct):
    role: str = ""


_decode_role = msgspec.json.Decoder(_Role).decode


def beginning(peeked: Peek) -> bytes | None:
    """Its system part and its first user message as raw JSON; None where there is nothing."""
    turns = bytes(peeked.messages or peeked.input or peeked.prompt)
    if not turns.startswith(b"["):
        return turns[:_ENOUGH_TEXT] or None
    return (bytes(peeked.system) + b"".join(_opening(turns)))[:_ENOUGH]


def _opening(turns: bytes) -> list[bytes]:
    opening: list[bytes] = []
    for turn in _decode_items(turns):
        opening.append(bytes(turn))
        if _role(bytes(turn)) not in ("system", "developer"):
            break
    return opening


def _role(turn: bytes) -> str:
    try:
        return _decode_role(turn).role
    except MALFORMED:
        return ""
