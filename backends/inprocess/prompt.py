"""What a request comes to before it is generated: token ids, and what goes with them. Pure."""

from __future__ import annotations

import msgspec


class Prompt(msgspec.Struct, frozen=True):
    """One prompt, as the library shall read it."""

    tokens: list[int]
    """Token ids; each picture is there as the placeholders that stand for it."""
    vision: object | None = None
    """What the library needs to see its pictures with; its own affair. None without pictures."""
