"""Where the tokens of a prompt stand, for models whose images stand in rows and columns. Pure.

This is the M-RoPE of Qwen2-VL (Wang et al. 2024, section 2.1): each token has a time, a row and a
column. Text counts all three on together; an image holds the time still, its rows and columns count
from there, and what follows it goes on after the largest of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Positions = NDArray[np.int32]
"""[3, tokens]: times, rows and columns."""


class Grid(NamedTuple):
    """An image in the prompt."""

    start: int
    """The place of its first token."""
    time: int
    rows: int
    columns: int


def grid_positions(length: int, grids: Sequence[Grid]) -> tuple[Positions, int]:
    """The positions of a prompt of `length` tokens, whose `grids` are in order.

    With it comes how far ahead of its place each later token stands; that is negative.
    """
    parts: list[Positions] = []
    done, next_position = 0, 0
    for grid in grids:
        text = grid.start - done
        parts.append(_line(next_position, text))
        next_position += text
        inside = np.indices((grid.time, grid.rows, grid.columns), dtype=np.int32).reshape(3, -1)
        parts.append(inside + np.int32(next_position))
        next_position += max(grid.time, grid.rows, grid.columns)
        done = grid.start + inside.shape[1]
    parts.append(_line(next_position, length - done))
    return np.concatenate(parts, axis=1), next_position - done


def _line(start: int, length: int) -> Positions:
    return np.tile(np.arange(start, start + length, dtype=np.int32), (3, 1))
