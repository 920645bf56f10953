"""Small GGUF files, written as ggml's docs/gguf.md says."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

_ALIGNMENT = 32
_F32, _BOOL, _STRING, _ARRAY, _U32, _I32 = 6, 7, 8, 9, 4, 5

Value = bool | int | float | str | Sequence[int] | Sequence[float] | Sequence[str]


def write_gguf(
    path: Path,
    metadata: Mapping[str, Value],
    tensors: Mapping[str, npt.NDArray[np.float32]] | None = None,
) -> Path:
    """Write a file with `metadata` and `tensors`, whose shapes are in NumPy's order."""
    tensors = tensors or {}
    head = struct.pack("<4sIQQ", b"GGUF", 3, len(tensors), len(metadata))
    for key, value in metadata.items():
        kind, content = _value(value)
        head += _string(key) + struct.pack("<I", kind) + content
    body = b""
    for name, tensor in tensors.items():
        shape = tensor.shape[::-1]
        head += _string(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, len(body))
        body += _padded(tensor.astype("<f4").tobytes())
    path.write_bytes(_padded(head) + body)
    return path


def _value(value: Value) -> tuple[int, bytes]:
    match value:
        case bool():
            return _BOOL, struct.pack("<?", value)
        case int():
            return _U32, struct.pack("<I", value)
        case float():
            return _F32, struct.pack("<f", value)
        case str():
            return _STRING, _string(value)
        case [str(), *_]:
            content = b"".join(map(_string, map(str, value)))
            return _ARRAY, struct.pack("<IQ", _STRING, len(value)) + content
        case [float(), *_]:
            return _ARRAY, struct.pack(f"<IQ{len(value)}f", _F32, len(value), *value)
        case _:
            return _ARRAY, struct.pack(f"<IQ{len(value)}i", _I32, len(value), *value)


def _string(text: str) -> bytes:
    raw = text.encode()
    return struct.pack("<Q", len(raw)) + raw


def _padded(content: bytes) -> bytes:
    return content + bytes(-len(content) % _ALIGNMENT)


def tiny_bert(path: Path) -> Path:
    """An embedding model that looks both ways, with random weights: two layers, width 32."""
    width, inner, layers, context = 32, 64, 2, 64
    random = np.random.default_rng(7)

    def weights(*shape: int) -> npt.NDArray[np.float32]:
        return (random.standard_normal(shape) * 0.2).astype(np.float32)

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    words += [
        "\u2581the",
        "\u2581a",
        "\u2581cat",
        "\u2581dog",
        "\u2581sat",
        "\u2581on",
        "\u2581mat",
    ]
    tensors = {
        "token_embd.weight": weights(len(words), width),
        "token_types.weight": weights(2, width),
        "position_embd.weight": weights(context, width),
        "token_embd_norm.weight": np.ones(width, np.float32),
        "token_embd_norm.bias": weights(width),
    }
    for layer in range(layers):
        block = f"blk.{layer}."
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensors[f"{block}{name}.weight"] = weights(width, width)
            tensors[f"{block}{name}.bias"] = weights(width)
        for name in ("attn_output_norm", "layer_output_norm"):
            tensors[f"{block}{name}.weight"] = np.ones(width, np.float32)
            tensors[f"{block}{name}.bias"] = weights(width)
        tensors[f"{block}ffn_up.weight"] = weights(inner, width)
        tensors[f"{block}ffn_up.bias"] = weights(inner)
        tensors[f"{block}ffn_down.weight"] = weights(width, inner)
        tensors[f"{block}ffn_down.bias"] = weights(width)
    metadata: dict[str, Value] = {
        "general.architecture": "bert",
        "bert.context_length": context,
        "bert.embedding_length": width,
        "bert.feed_forward_length": inner,
        "bert.block_count": layers,
        "bert.attention.head_count": 4,
        "bert.attention.layer_norm_epsilon": 1e-12,
        "bert.attention.causal": False,
        "bert.pooling_type": 1,
        "tokenizer.ggml.model": "bert",
        "tokenizer.ggml.tokens": words,
        "tokenizer.ggml.token_type": [3] * 5 + [1] * (len(words) - 5),
        "tokenizer.ggml.token_type_count": 2,
        "tokenizer.ggml.bos_token_id": 2,
        "tokenizer.ggml.cls_token_id": 2,
        "tokenizer.ggml.eos_token_id": 3,
        "tokenizer.ggml.seperator_token_id": 3,
        "tokenizer.ggml.unknown_token_id": 1,
        "tokenizer.ggml.padding_token_id": 0,
        "tokenizer.ggml.mask_token_id": 4,
    }
    return write_gguf(path, metadata, tensors)
