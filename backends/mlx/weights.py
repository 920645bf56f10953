"""Reading weights into memory, piece by piece, so that it can be told how far that is.

MLX reads a tensor when it is first used; so all are used here, one after the other.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

_AT_ONCE = 256 << 20
"""Bytes to ask for together: tensor by tensor, small ones would take turns with the disk."""


def load_weights(parameters: Any, tell: Callable[[int, int], None]) -> None:
    """Have all arrays of the tree `parameters` in memory.

    `tell` hears how many bytes are there, and of how many, after each piece.
    """
    flat: list[tuple[str, mx.array]] = tree_flatten(parameters)  # type: ignore[assignment]
    arrays = [array for _, array in flat]
    total = sum(array.nbytes for array in arrays)
    done, pending = 0, 0
    batch: list[mx.array] = []
    for array in arrays:
        batch.append(array)
        pending += array.nbytes
        if pending >= _AT_ONCE:
            mx.eval(batch)
            done, pending, batch = done + pending, 0, []
            tell(done, total)
    mx.eval(batch)
