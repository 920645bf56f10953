"""LoRA adapters as they lie on disk: mlx-lm's format, and PEFT's. Pure, but for reading files.

An adapter adds `x A B` to what a linear layer makes of `x`, with A and B of a low rank (Hu et al.
2021). mlx-lm calls them `lora_a` [inputs, rank] and `lora_b` [rank, outputs]; PEFT `lora_A` and
`lora_B`, both the other way round, so that reading its format is renaming and transposing.

Rule of this file: whatever it does not know is refused. An adapter that was only partly applied
would answer, and nobody would know why it answers so badly.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from backends.malformed import MALFORMED
from backends.mlx.safetensors_header import BrokenWeights, Tensor, read_header, read_headers

_CONFIG = "adapter_config.json"
_MLX, _PEFT = "adapters.safetensors", "adapter_model.safetensors"
_FLOATS = frozenset({"F64", "F32", "F16", "BF16"})
_MLX_NAME = re.compile(r"(?P<layer>.+)\.lora_(?P<side>[ab])")
_PEFT_NAME = re.compile(
    r"(?:base_model\.model\.)?(?P<layer>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight"
)
_UNSUPPORTED = {
    "use_dora": "DoRA",
    "modules_to_save": "whole layers beside the low ranks (`modules_to_save`)",
    "rank_pattern": "`rank_pattern`",
    "alpha_pattern": "`alpha_pattern`",
}


class BadAdapter(ValueError):
    """An adapter cannot be used; the message says what is wrong, and where."""


class LayerAdapter(msgspec.Struct, frozen=True, kw_only=True):
    """What an adapter does to one linear layer."""

    down: str
    """The tensor that is A, as the file calls it."""
    up: str
    inputs: int
    rank: int
    outputs: int


class AdapterFiles(msgspec.Struct, frozen=True, kw_only=True):
    """An adapter that has been looked at, and not loaded."""

    weights: Path
    transposed: bool
    """Its tensors are PEFT's: A is [rank, inputs], B is [outputs, rank]."""
    scale: float
    """What B is multiplied by."""
    layers: Mapping[str, LayerAdapter]
    """By what the layer is called, in the order of the file."""

    @property
    def numbers(self) -> int:
        """How many it has."""
        return sum(one.rank * (one.inputs + one.outputs) for one in self.layers.values())


def look_at(directory: Path) -> AdapterFiles:
    """What the adapter in `directory` is made of. Raises `BadAdapter`, `OSError`."""
    config = _read_config(directory / _CONFIG)
    is_mlx = (directory / _MLX).is_file() and "lora_parameters" in config
    weights = directory / (_MLX if is_mlx else _PEFT)
    if not weights.is_file():
        raise BadAdapter(f"{directory} is no LoRA adapter: it has no {_MLX} or {_PEFT}")
    scale = _mlx_scale(config) if is_mlx else _peft_scale(config)
    if scale is None or not math.isfinite(scale):
        wanted = "lora_parameters.scale" if is_mlx else "lora_alpha and r"
        raise BadAdapter(f"{directory / _CONFIG} does not say {wanted}")
    if (unsupported := _unsupported(config)) is not None:
        raise BadAdapter(f"{directory} has {unsupported}: only plain LoRA is supported")
    try:
        tensors = read_header(weights)
    except BrokenWeights as error:
        raise BadAdapter(str(error)) from None
    layers = _pair(weights, tensors, _MLX_NAME if is_mlx else _PEFT_NAME, transposed=not is_mlx)
    return AdapterFiles(weights=weights, transposed=not is_mlx, scale=scale, layers=layers)


def check_base(adapter: AdapterFiles, model: Path) -> None:
    """Refuse an adapter that was made for another base than the one in `model`.

    Only as far as the files tell: mlx-lm calls the layers of some models other than their files do.
    Raises `BadAdapter`, and `ValueError` or `OSError` for a model that cannot be read.
    """
    base = read_headers(model)
    known = {
        layer: shape
        for layer, wanted in adapter.layers.items()
        if (shape := _shape(base, layer, wanted)) is not None
    }
    if not known:
        return
    for layer, wanted in adapter.layers.items():
        refuse_mismatch(layer, wanted, known.get(layer))


def refuse_mismatch(layer: str, wanted: LayerAdapter, found: tuple[int, int] | None) -> None:
    """Raise `BadAdapter` if the base's layer, (outputs, inputs), is not the one that is adapted."""
    if found is None:
        raise BadAdapter(f"it is for another model: it adapts {layer}, which is not in this one")
    if found != (wanted.outputs, wanted.inputs):
        outputs, inputs = found
        raise BadAdapter(
            f"it is for another model: its {layer} has {wanted.inputs} inputs and "
            f"{wanted.outputs} outputs, the model's has {inputs} and {outputs}"
        )


def size_of(adapters: Iterable[Path], item: int) -> int:
    """Bytes that adapters take where a number takes `item`. Raises `BadAdapter`, `OSError`."""
    return sum(look_at(path).numbers for path in adapters) * item


def _read_config(path: Path) -> dict[str, Any]:
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except FileNotFoundError:
        raise BadAdapter(f"{path.parent} is no LoRA adapter: it has no {_CONFIG}") from None
    except MALFORMED as error:
        raise BadAdapter(f"{path} is no JSON object: {error}") from None


def _mlx_scale(config: Mapping[str, Any]) -> float | None:
    parameters = config["lora_parameters"]
    return _number(parameters.get("scale")) if isinstance(parameters, dict) else None


def _peft_scale(config: Mapping[str, Any]) -> float | None:
    """`lora_alpha` by the rank; by its root where it is stabilised (Kalajdzievski 2023)."""
    alpha, rank = _number(config.get("lora_alpha")), _number(config.get("r"))
    if alpha is None or rank is None or rank <= 0:
        return None
    return alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)


def _number(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) else None


def _unsupported(config: Mapping[str, Any]) -> str | None:
    """What the adapter has that is no low-rank pair; None for a plain one."""
    kind = config.get("fine_tune_type", "lora")
    if kind != "lora":
        return f"the fine-tune type {kind!r}"
    if (peft := config.get("peft_type", "LORA")) != "LORA":
        return f"the PEFT type {peft!r}"
    if (bias := config.get("bias", "none")) != "none":
        return f"biases ({bias!r})"
    return next((what for field, what in _UNSUPPORTED.items() if config.get(field)), None)


def _pair(
    file: Path, tensors: Mapping[str, Tensor], pattern: re.Pattern[str], *, transposed: bool
) -> dict[str, LayerAdapter]:
    """The layers of a file, each with its two tensors."""
    sides: dict[str, dict[str, str]] = {}
    for name, tensor in tensors.items():
        match = pattern.fullmatch(name)
        if match is None:
            raise BadAdapter(f"{file}: {name} is no part of a plain LoRA adapter")
        if tensor.dtype not in _FLOATS:
            raise BadAdapter(f"{file}: {name} has numbers of the type {tensor.dtype}")
        sides.setdefault(match["layer"], {})[match["side"].lower()] = name
    if not sides:
        raise BadAdapter(f"{file} has no tensors")
    turned: Callable[[Tensor], tuple[int, ...]] = (
        (lambda tensor: tensor.shape[::-1]) if transposed else (lambda tensor: tensor.shape)
    )
    return {layer: _layer(file, layer, names, tensors, turned) for layer, names in sides.items()}


def _layer(
    file: Path,
    layer: str,
    names: Mapping[str, str],
    tensors: Mapping[str, Tensor],
    turned: Callable[[Tensor], tuple[int, ...]],
) -> LayerAdapter:
    if names.keys() != {"a", "b"}:
        raise BadAdapter(f"{file}: {layer} has only one of its two tensors")
    down, up = turned(tensors[names["a"]]), turned(tensors[names["b"]])
    if len(down) != 2 or len(up) != 2:
        raise BadAdapter(f"{file}: {layer} is adapted for each expert: that is not supported")
    if down[1] != up[0] or not down[1]:
        raise BadAdapter(f"{file}: the two tensors of {layer} have the ranks {down[1]} and {up[0]}")
    return LayerAdapter(down=names["a"], up=names["b"], inputs=down[0], rank=down[1], outputs=up[1])


def _shape(base: Mapping[str, Tensor], layer: str, wanted: LayerAdapter) -> tuple[int, int] | None:
    """Outputs and inputs of a linear layer; None where it is not there."""
    weight = base.get(f"{layer}.weight")
    if weight is None or len(weight.shape) != 2:
        return None
    outputs, inputs = weight.shape
    # Quantized weights are packed, by a number of bits that is said elsewhere.
    return (outputs, inputs) if weight.dtype in _FLOATS else (outputs, wanted.inputs)
