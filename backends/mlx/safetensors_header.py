"""What safetensors files say of themselves, without reading a tensor.

The format: eight bytes with the header's length, little-endian; the header, a JSON object of
`name: {dtype, shape, data_offsets}`; the data
(https://github.com/huggingface/safetensors#format).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec

from backends.malformed import MALFORMED

_MOST = 100_000_000
"""Bytes of a header; the format's own bound."""


class Tensor(msgspec.Struct, frozen=True):
    """One tensor of a file."""

    dtype: str
    """`F32`, `BF16`, `U32`, …"""
    nbytes: int
    shape: tuple[int, ...]


class BrokenWeights(ValueError):
    """A file is no safetensors, or not all of it is there; the message names it."""


def read_headers(directory: Path) -> dict[str, Tensor]:
    """All tensors of a model's `model*.safetensors`, by name. Raises `BrokenWeights`, `OSError`."""
    tensors: dict[str, Tensor] = {}
    for path in sorted(directory.glob("model*.safetensors")):
        tensors.update(read_header(path))
    return tensors


def read_header(path: Path) -> dict[str, Tensor]:
    """All tensors of one file, by name. Raises `BrokenWeights`, `OSError`."""
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if not 2 <= length <= min(_MOST, size - 8):
            raise BrokenWeights(f"{path} is no safetensors file, or was cut off")
        header = file.read(length)
    try:
        fields: dict[str, Any] = msgspec.json.decode(header, type=dict[str, Any])
        fields.pop("__metadata__", None)  # null, in what MLX writes without any
        tensors = msgspec.convert(fields, dict[str, dict[str, Any]])
        ends = [int(entry["data_offsets"][1]) for entry in tensors.values()]
        found = {
            name: Tensor(
                str(entry["dtype"]),
                end - int(entry["data_offsets"][0]),
                tuple(map(int, entry["shape"])),
            )
            for (name, entry), end in zip(tensors.items(), ends, strict=True)
        }
    except (*MALFORMED, KeyError, IndexError, TypeError, ValueError) as error:
        raise BrokenWeights(f"{path} is no safetensors file: its header is broken") from error
    if (missing := 8 + length + max(ends, default=0) - size) > 0:
        raise BrokenWeights(f"{path} was cut off: {missing} bytes are missing; fetch it again")
    return found
