"""Loading a model that sees: mlx-vlm's class, our way to read weights. Engine thread only.

Importing this file imports MLX and mlx-vlm.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlx_vlm.utils import load_model as _load_model

from backends.inprocess.loading import Loading
from backends.mlx.vision.family import Family
from backends.mlx.vision.model import SeeingModel
from backends.mlx.weights import load_weights


def load_seeing(directory: Path, family: Family, loading: Loading) -> SeeingModel:
    """The model in `directory`, of `family`, in memory; raises whatever mlx-vlm raises."""
    load: Callable[..., Any] = _load_model
    model = load(directory, lazy=True)
    load_weights(model.parameters(), loading.reached)
    return SeeingModel(model, family)
