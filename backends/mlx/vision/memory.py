"""What looking at pictures takes of the memory, from a model's files. Pure.

Its weights are counted with all others. Beside them: what the encoder has in hand while it looks at
the largest picture, what it has seen of the last ones, and the arrays of pictures that wait.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from backends.mlx.vision.family import Family

_SEEN = 128 << 20
"""Bytes for what the encoder has seen last: choices of one request share it."""
_MOST_ROOM = 1 << 30
_SHARE = 16
"""Pictures that wait get at most this part of the machine."""
_ITEM = 4
"""Bytes: encoders are computed in 16 or 32 bits."""
_DEFAULT_PIXELS = 1280 * 28 * 28
"""What mlx-vlm's processor shrinks a picture to for which the checkpoint names no size."""


class PictureMemory(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes, at most."""

    encoder: int
    """While it looks at one picture."""
    seen: int = _SEEN
    room: int
    """For pictures that wait."""

    @property
    def total(self) -> int:
        """All of it."""
        return self.encoder + self.seen + self.room


def picture_memory(
    family: Family,
    config: Mapping[str, Any],
    processor: Mapping[str, Any],
    *,
    memory: int,
    most_pixels: int,
    scores: bool,
) -> PictureMemory:
    """What a model of `family` takes; `processor` is what its image processor is told.

    `scores` says whether attention's scores lie in memory at once: on a CPU, they do.
    """
    vision = config.get("vision_config") or {}
    patch = _number(vision, "patch_size") or 14
    if family.positions == "grid":
        pixels = min(_grid_pixels(processor), most_pixels)
        pieces, patches = 1, pixels // patch**2
    else:
        pieces, patches = _tiles(processor), ((_number(vision, "image_size") or 384) // patch) ** 2
    hidden = _number(vision, "embed_dim", "hidden_size") or 1024
    inner = _number(vision, "intermediate_size") or 4 * hidden
    encoder = pieces * patches * (8 * hidden + 3 * inner) * _ITEM
    if scores:
        heads = _number(vision, "num_attention_heads", "num_heads") or hidden // 64
        encoder += 2 * pieces * heads * patches**2 * _ITEM
    return PictureMemory(encoder=encoder, room=min(_MOST_ROOM, memory // _SHARE))


def _grid_pixels(processor: Mapping[str, Any]) -> int:
    size = processor.get("size") or {}
    return _number(processor, "max_pixels") or _number(size, "longest_edge") or _DEFAULT_PIXELS


def _tiles(processor: Mapping[str, Any]) -> int:
    """Into how many pieces a picture is cut, all of it in small beside them."""
    whole = _number(processor.get("size") or {}, "longest_edge")
    piece = _number(processor.get("max_image_size") or {}, "longest_edge")
    if not whole or not piece or processor.get("do_image_splitting") is False:
        return 1
    return (-(-whole // piece)) ** 2 + 1


def _number(values: Mapping[str, Any], *names: str) -> int:
    found = (values.get(name) for name in names)
    return next((one for one in found if isinstance(one, int) and one > 0), 0)
