"""How LoRA adapters are called, and where they are."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from backends.base import Adapter

AdapterName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="a name of at most 64 letters, digits, `_`, `.` and `-`",
    ),
]


AdapterPath = Annotated[str, Meta(min_length=1, max_length=4096)]


def loras(adapters: dict[str, str]) -> frozenset[Adapter]:
    """`adapters`, a path for each name, as an engine's options tell them."""
    return frozenset(Adapter(name, path) for name, path in adapters.items())
