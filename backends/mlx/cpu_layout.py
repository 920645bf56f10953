"""How weights lie in memory where the CPU computes. Engine thread only.

A linear layer is `x @ w.T`. MLX asks BLAS for it with a transposed matrix, and the reference BLAS
in its Linux wheels makes dot products of that, a number at a time. Where `w.T` itself lies row by
row, the same products are added up in the same order, but side by side: a batch of eight of the
model that ships takes three quarters of the CPU. Only float32 goes through BLAS.

Rule of this file: the same sums in the same order. So layers with a bias stay as they are, for BLAS
would add it first in place of last. What is left is the compiler's: where it contracts one of the
loops of BLAS into fused multiply-adds and not the other, the last bit may differ.
"""

from __future__ import annotations

from typing import Any

import mlx.core as mx
from mlx.nn.layers.embedding import Embedding
from mlx.nn.layers.linear import Linear


def turn_weights(model: Any) -> None:
    """Lay the weights of the linear layers of `model` down the other way; values and shapes stay.

    An embedding is turned where it is the output layer too. One after the other, so that at most
    one of them is in memory twice.
    """
    kinds = (Linear, Embedding) if _is_tied(model) else (Linear,)
    for _, module in model.named_modules():
        if type(module) not in kinds or module.get("bias") is not None:
            continue
        if module.weight.dtype == mx.float32:
            module.weight = mx.contiguous(module.weight.T).T
            mx.eval(module.weight)


def _is_tied(model: Any) -> bool:
    return bool(getattr(getattr(model, "args", None), "tie_word_embeddings", False))
