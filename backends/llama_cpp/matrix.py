"""llama.cpp's own memory, seen as an array."""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float32]


def matrix_at(first: Any, rows: int, columns: int) -> Matrix:
    """The floats from `first`, a pointer, on: [rows, columns]. No copy is made.

    Good until the next call of llama.cpp that computes.
    """
    memory: Any = (ctypes.c_float * (rows * columns)).from_address(ctypes.addressof(first.contents))
    matrix: Matrix = np.frombuffer(memory, dtype=np.float32).reshape(rows, columns)
    return matrix
