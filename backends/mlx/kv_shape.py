"""What the KV cache of a model takes, from its config.json. Pure.

Layers are of three kinds: those whose cache grows with every token, those that keep a window of
it, and those with a state that does not grow (Mamba, linear attention, convolutions). Which a
layer is, is said as mlx-lm's models read it; where that is not known, every layer is taken to
grow, which is rather too much than too little, and `estimated` says so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

_GROWING = frozenset({"full_attention", "attention", "global", "global_attention", "*"})
_WINDOWED = frozenset({"sliding_attention", "sliding", "swa", "local_attention"})
_STATEFUL = frozenset(
    {"linear_attention", "mamba", "mamba2", "conv", "recurrent", "linear", "kda", "M"}
)
_KEEPS_WINDOWS = frozenset(
    {
        "afmoe",
        "cohere2",
        "exaone4",
        "exaone_moe",
        "gemma3",
        "gemma3_text",
        "gemma3n",
        "gemma3n_text",
    }
    | {"gemma4", "gemma4_text", "gpt_oss", "llama", "ministral3", "mistral", "mistral3"}
    | {"olmo3", "recurrent_gemma"}
)
"""Types whose sliding layers mlx-lm gives a rotating cache; others keep everything there, too."""
_LATENT = frozenset(
    {"bailing_moe_v3", "deepseek_v3", "glm4_moe_lite", "kimi_k2", "kimi_k25", "kimi_linear"}
)
"""Types of multi-head latent attention that mlx-lm caches as the latent."""
_ONLY_STATE = frozenset({"falcon_mamba", "mamba", "mamba2", "rwkv7"})
_HINTS_AT_STATE = ("mamba_d_state", "ssm_state_size", "state_size", "linear_num_value_heads")
_STATE_ITEM = 4
"""Bytes: recurrent states are kept in float32."""


class KvShape(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes that one sequence's cache takes."""

    per_token: int
    """For every token."""
    per_sequence: int = 0
    """Once, at most: windows and states."""
    layers: int
    """With a cache."""
    estimated: bool = False
    """Rather too much than too little."""


def kv_shape(config: Mapping[str, Any], item: int) -> KvShape:
    """The shape of a model's cache; `item` is the size of a number in it, in bytes.

    Raises `ValueError` where the configuration does not say what every model must.
    """
    model_type = str(config.get("model_type", ""))
    layers = _number(config, "num_hidden_layers", "n_layers", "n_layer", "num_layers")
    kinds, known = _kinds(config, model_type, layers)
    only_state = "grows" not in kinds and "window" not in kinds
    width, exact = (0, True) if only_state else _width(config, model_type)
    per_layer = width * item
    window = _optional(config, "sliding_window", "attention_window_size", "sliding_window_size")
    windowed, stateful = kinds.count("window"), kinds.count("state")
    return KvShape(
        per_token=kinds.count("grows") * per_layer,
        per_sequence=windowed * window * per_layer + stateful * _state(config),
        layers=layers,
        estimated=not (known and exact) or bool(stateful),
    )


def _kinds(config: Mapping[str, Any], model_type: str, layers: int) -> tuple[list[str], bool]:
    """What each layer is, and whether that is known."""
    if model_type in _ONLY_STATE:
        return ["state"] * layers, True
    windows = model_type in _KEEPS_WINDOWS
    window = _optional(config, "sliding_window", "attention_window_size")
    types = config.get("layer_types") or config.get("layers_block_type")
    if not types and isinstance(pattern := config.get("hybrid_override_pattern"), str):
        types = [one for one in pattern if one in "M*"]  # the others are no mixers
        return [_kind(str(one), windows) for one in types], True
    if isinstance(types, Sequence) and not isinstance(types, str) and len(types) == layers:
        kept = layers - _optional(config, "num_kv_shared_layers")
        known = all(str(one) in _GROWING | _WINDOWED | _STATEFUL for one in types)
        return [_kind(str(one), windows and bool(window)) for one in types[:kept]], known
    if every := _optional(config, "full_attention_interval"):
        return [("state", "grows")[(at + 1) % every == 0] for at in range(layers)], True
    if windows and window and (every := _optional(config, "sliding_window_pattern")):
        return [("window", "grows")[(at + 1) % every == 0] for at in range(layers)], True
    odd = any(config.get(name) for name in _HINTS_AT_STATE) or (windows and window)
    return ["grows"] * layers, not odd


def _kind(layer_type: str, windows: bool) -> str:
    if layer_type in _STATEFUL:
        return "state"
    return "window" if windows and layer_type in _WINDOWED else "grows"


def _width(config: Mapping[str, Any], model_type: str) -> tuple[int, bool]:
    """Numbers in one layer's cache for one token, and whether that is certain."""
    heads = _number(config, "num_attention_heads", "n_heads", "n_head")
    if rank := _optional(config, "kv_lora_rank"):
        rope = _number(config, "qk_rope_head_dim")
        if model_type in _LATENT:
            return rank + rope, True
        key = _number(config, "qk_nope_head_dim") + rope
        return heads * (key + (_optional(config, "v_head_dim") or key)), False
    kv_heads = config.get("num_key_value_heads") or config.get("num_kv_heads") or heads
    certain = isinstance(kv_heads, int)
    if isinstance(kv_heads, list):
        kv_heads = max(int(one) for one in kv_heads)
    size = _optional(config, "head_dim")
    if not size:
        size = _number(config, "hidden_size", "n_embd", "dim", "d_model") // heads
    widest = max(size, _optional(config, "global_head_dim"))
    return int(kv_heads) * widest * 2, certain and widest == size


def _state(config: Mapping[str, Any]) -> int:
    """About what a layer with a state keeps: as many numbers as such layers usually do."""
    hidden = _number(config, "hidden_size", "n_embd", "dim", "d_model")
    heads = _optional(config, "linear_num_value_heads")
    if heads:
        key = _optional(config, "linear_key_head_dim") or 128
        value = _optional(config, "linear_value_head_dim") or 128
        return heads * (key * value + 8 * (key + value)) * _STATE_ITEM
    per_channel = _optional(config, "mamba_d_state", "ssm_state_size", "state_size") or 64
    return 2 * hidden * (per_channel + 8) * _STATE_ITEM


def _optional(config: Mapping[str, Any], *names: str) -> int:
    """The first of `names` that is a positive number; 0 where none is."""
    values = (config.get(name) for name in names)
    return next((v for v in values if isinstance(v, int) and v > 0), 0)


def _number(config: Mapping[str, Any], *names: str) -> int:
    if value := _optional(config, *names):
        return value
    raise ValueError(f"config.json does not say {names[0]}")
