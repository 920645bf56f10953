"""One LoRA adapter in the three formats, all from one set of numbers: the engines must agree.

A folder holds all of them. `adapter_config.json` has the keys that PEFT (vLLM) looks for and the
keys that mlx-lm looks for; each passes over the other's.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save_file

PEFT = "adapter_model.safetensors"
MLX = "adapters.safetensors"
GGUF = "adapter.gguf"
CONFIG = "adapter_config.json"

RANK = 4
ALPHA = 8
"""The delta is `ALPHA / RANK * B @ A`."""
PROJECTIONS = (
    "self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj",
    "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj",
)  # fmt: skip
"""The matrices of a layer that an adapter changes."""

Array = NDArray[np.float32]
Deltas = dict[str, tuple[Array, Array]]
"""For each matrix, by its Hugging Face name without `.weight`: A (rank, in) and B (out, rank)."""

_PEFT_PREFIX = "base_model.model."


def write(folder: Path, deltas: Deltas, config: dict[str, Any]) -> None:
    """Write the adapter for all engines into `folder`; `config` is the model's `config.json`."""
    folder.mkdir(parents=True, exist_ok=True)
    save_peft(folder / PEFT, deltas)
    save_mlx(folder / MLX, deltas)
    save_gguf(folder / GGUF, deltas, config)
    text = json.dumps(adapter_config(config), indent=2) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def adapter_config(config: dict[str, Any]) -> dict[str, Any]:
    """What PEFT and mlx-lm want to know, beside the numbers."""
    return {
        "base_model_name_or_path": "tiny-tale",
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "r": RANK,
        "lora_alpha": ALPHA,
        "lora_dropout": 0.0,
        "bias": "none",
        "target_modules": [name.rpartition(".")[2] for name in PROJECTIONS],
        "fine_tune_type": "lora",
        "num_layers": config["num_hidden_layers"],
        "lora_parameters": {
            "rank": RANK,
            "scale": ALPHA / RANK,
            "dropout": 0.0,
            "keys": list(PROJECTIONS),
        },
    }


def save_peft(path: Path, deltas: Deltas) -> None:
    """PEFT's names and orientation, which vLLM reads."""
    tensors = {}
    for name, (a, b) in deltas.items():
        tensors[f"{_PEFT_PREFIX}{name}.lora_A.weight"] = np.ascontiguousarray(a)
        tensors[f"{_PEFT_PREFIX}{name}.lora_B.weight"] = np.ascontiguousarray(b)
    _save(path, tensors, {"format": "pt"})


def load_peft(path: Path) -> Deltas:
    """The numbers again, from what `save_peft` wrote."""
    tensors = load_file(path)
    suffix = ".lora_A.weight"
    names = [name.removesuffix(suffix) for name in tensors if name.endswith(suffix)]
    return {
        name.removeprefix(_PEFT_PREFIX): (
            tensors[f"{name}.lora_A.weight"],
            tensors[f"{name}.lora_B.weight"],
        )
        for name in names
    }


def save_mlx(path: Path, deltas: Deltas) -> None:
    """mlx-lm's names; both matrices are transposed: x @ a @ b."""
    tensors = {}
    for name, (a, b) in deltas.items():
        tensors[f"{name}.lora_a"] = np.ascontiguousarray(a.T)
        tensors[f"{name}.lora_b"] = np.ascontiguousarray(b.T)
    _save(path, tensors, {"format": "mlx"})


def save_gguf(path: Path, deltas: Deltas, config: dict[str, Any]) -> None:
    """llama.cpp's names; rows of B follow its order of query and key rows, as the weights do."""
    import gguf

    arch = gguf.MODEL_ARCH.LLAMA
    names = gguf.get_tensor_name_map(arch, config["num_hidden_layers"])
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[arch])
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, float(ALPHA))
    for name, (a, b) in deltas.items():
        target = names.get_name(f"{name}.weight", try_suffixes=(".weight",))
        if target is None:
            raise ValueError(f"GGUF has no name for the tensor {name}")
        writer.add_tensor(f"{target}.lora_a", np.ascontiguousarray(a))
        writer.add_tensor(f"{target}.lora_b", neighbours(name, b, config))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def neighbours(name: str, b: Array, config: dict[str, Any]) -> Array:
    """Rows (heads x head_dim) of a query or key projection from halves to pairs; see `export`."""
    if name.endswith("q_proj"):
        heads = config["num_attention_heads"]
    elif name.endswith("k_proj"):
        heads = config["num_key_value_heads"]
    else:
        return np.ascontiguousarray(b)
    halves = b.reshape(heads, 2, config["head_dim"] // 2, b.shape[1])
    return np.ascontiguousarray(halves.swapaxes(1, 2).reshape(b.shape))


def _save(path: Path, tensors: dict[str, Array], metadata: dict[str, str]) -> None:
    save_file(tensors, path, metadata=metadata)
    path.chmod(0o644)  # safetensors keeps its files to their owner
