"""How vLLM is started for LoRA adapters. Pure, but for reading of what rank they are.

vLLM 0.32 on a CPU, where all of its places have an adapter, answers a request without one, in one
batch with one that has one, with what is in the last place. So it is given one place more than
there are adapters; and a few, because an admin call may add some while it runs, and because one
that replaces another is there beside it for a moment. Each place takes memory at its start.
"""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Annotated

import msgspec

from backends.base import Adapter
from backends.malformed import MALFORMED

_PLACES = frozenset({"--max-loras", "--max_loras"})
_RANK = frozenset({"--max-lora-rank", "--max_lora_rank"})
_FOR_THE_BASE = 1
_FOR_LATER = 3
_DEFAULT_RANK = 16
_RANKS = (16, 32, 64, 128, 256, 320, 512)
"""Those that vLLM can be started with, from its default on."""


class _PeftConfig(msgspec.Struct):
    """What of PEFT's adapter_config.json is looked at."""

    r: Annotated[int, msgspec.Meta(ge=1)]
    rank_pattern: dict[str, int] | None = None


_decode_config = msgspec.json.Decoder(_PeftConfig).decode


def arguments(adapters: Collection[Adapter], given: Collection[str]) -> tuple[str, ...]:
    """What to add to the arguments `given` so that it can load `adapters`, and a few later."""
    if not adapters:
        return ()
    flags = {argument.partition("=")[0] for argument in given}
    argv: list[str] = []
    if not flags & {"--enable-lora", "--no-enable-lora"}:
        argv.append("--enable-lora")
    if not flags & _PLACES:
        argv += ["--max-loras", str(place_count(adapters, given))]
    rank = max(map(_rank_of, adapters))
    if not flags & _RANK and rank > _DEFAULT_RANK:
        argv += ["--max-lora-rank", str(next((one for one in _RANKS if one >= rank), rank))]
    return tuple(argv)


def place_count(adapters: Collection[Adapter], given: Collection[str]) -> int:
    """How many adapters, and the base, a server started for `adapters` has room for."""
    said, is_next = None, False
    for argument in given:
        flag, equals, value = argument.partition("=")
        number = argument if is_next else value if flag in _PLACES and equals else ""
        said = int(number) if number.isdecimal() else said
        is_next = flag in _PLACES and not equals
    return len(adapters) + _FOR_THE_BASE + _FOR_LATER if said is None else said


def _rank_of(adapter: Adapter) -> int:
    """The largest rank in it; 0 where it cannot be told: vLLM has the words for what is wrong."""
    try:
        config = _decode_config((Path(adapter.path) / "adapter_config.json").read_bytes())
    except (OSError, ValueError, *MALFORMED):
        return 0
    return max([config.r, *(config.rank_pattern or {}).values()])
