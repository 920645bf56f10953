"""LoRA adapters on vLLM: what a replica says it has, and what to call another one there. Pure.

An adapter is known by its path (`root` in `/v1/models`): under whatever name the server has it,
it is the same numbers. One whose path has changed is another one, and is loaded beside the old
one under a name of its own, so that nobody waits, and no answer is made by both.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from hashlib import blake2b

import msgspec

from backends.base import Adapter
from backends.malformed import MALFORMED

LOAD = "/v1/load_lora_adapter"
UNLOAD = "/v1/unload_lora_adapter"


class _Card(msgspec.Struct, frozen=True):
    id: str
    root: str | None = None
    parent: str | None = None


class _Cards(msgspec.Struct, frozen=True):
    data: tuple[_Card, ...] = ()


class Listed(msgspec.Struct, frozen=True):
    """What a replica lists."""

    names: frozenset[str]
    """Every name it answers to."""
    adapters: dict[str, str]
    """The adapters among them: normalised path to name. The last one loaded wins."""


def read_models(body: bytes) -> Listed:
    """The answer of `/v1/models`. Raises `ValueError` where it is none."""
    try:
        cards = msgspec.json.decode(body, type=_Cards).data
    except MALFORMED as error:
        raise ValueError(f"its list of models cannot be read: {error}") from None
    adapters = {os.path.normpath(card.root): card.id for card in cards if card.parent and card.root}
    return Listed(frozenset(card.id for card in cards), adapters)


def names_of(known: Collection[Adapter], listed: Listed) -> dict[Adapter, str]:
    """Those of `known` that the replica has, each with what it is called there."""
    places = ((adapter, os.path.normpath(adapter.path)) for adapter in known)
    return {
        adapter: listed.adapters[place] for adapter, place in places if place in listed.adapters
    }


def name_for(adapter: Adapter, taken: Collection[str]) -> str:
    """What to call `adapter` on a replica: its own name, or one of its path where that is taken."""
    if adapter.name not in taken:
        return adapter.name
    return f"{adapter.name}-{blake2b(adapter.path.encode(), digest_size=4).hexdigest()}"
