"""Reading weights into memory, with a word now and then: large models take minutes.

MLX reads a tensor when it is first used; so all are used here, one after the other.
"""

from __future__ import annotations

import logging
from time import monotonic
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten

from backends.memory import written

logger = logging.getLogger(__name__)

_EVERY = 5.0
"""Seconds between two words."""
_AT_ONCE = 256 << 20
"""Bytes to ask for together: tensor by tensor, small ones would take turns with the disk."""


def load_weights(parameters: Any, *, name: str) -> int:
    """Have all arrays of the tree `parameters` in memory; gives their bytes."""
    flat: list[tuple[str, mx.array]] = tree_flatten(parameters)  # type: ignore[assignment]
    arrays = [array for _, array in flat]
    total = sum(array.nbytes for array in arrays)
    done, pending, said = 0, 0, monotonic()
    batch: list[mx.array] = []
    for array in arrays:
        batch.append(array)
        pending += array.nbytes
        if pending >= _AT_ONCE:
            mx.eval(batch)
            done, pending, batch = done + pending, 0, []
            if monotonic() - said >= _EVERY:
                said = monotonic()
                logger.info("loading %s: %s of %s", name, written(done), written(total))
    mx.eval(batch)
    return total
