"""What a GGUF file says of its model, read without its weights and without llama.cpp.

Rules of this file:

- Nothing that a file says is believed before it is checked: a count or a length that the file has
  no room for is a `GgufError`, not an allocation.
- Only scalars, and short lists of numbers, are kept. A vocabulary is stepped over.
- Of tensors their shapes are read, and whether the file is long enough for all of them.

The format is that of ggml's docs/gguf.md, versions 2 and 3, little-endian.
"""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Mapping
from math import prod
from pathlib import Path
from typing import BinaryIO

import msgspec

MAGIC = b"GGUF"
_VERSIONS = (2, 3)
_STRING, _ARRAY = 8, 9
_SCALARS = {
    0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?",
    10: "<Q", 11: "<q", 12: "<d",
}  # fmt: skip
"""By the number that GGUF has for a type, as `struct` names it."""
_MAX_LIST = 4096
"""Numbers in a list that is kept: one for each layer, at most."""
_MAX_KEYS = 65_536
_MAX_DIMENSIONS = 4
_ALIGNMENT = 32
"""Bytes, unless `general.alignment` says otherwise."""
_BLOCKS = {
    0: (1, 4), 1: (1, 2), 2: (32, 18), 3: (32, 20), 6: (32, 22), 7: (32, 24), 8: (32, 34),
    9: (32, 36), 10: (256, 84), 11: (256, 110), 12: (256, 144), 13: (256, 176), 14: (256, 210),
    15: (256, 292), 16: (256, 66), 17: (256, 74), 18: (256, 98), 19: (256, 50), 20: (32, 18),
    21: (256, 110), 22: (256, 82), 23: (256, 136), 24: (1, 1), 25: (1, 2), 26: (1, 4),
    27: (1, 8), 28: (1, 8), 29: (256, 56), 30: (1, 2), 34: (256, 54), 35: (256, 66), 39: (32, 17),
}  # fmt: skip
"""Numbers in a block, and its bytes, by ggml's number of the type (`ggml_type`)."""
_SPLIT = re.compile(r"(?P<stem>.*)-(?P<number>\d{5})-of-(?P<count>\d{5})\.gguf")

Value = bool | int | float | str | list[bool | int | float]


class GgufError(ValueError):
    """A file that is no GGUF file, or not a whole one."""


class GgufHeader(msgspec.Struct, frozen=True):
    """The metadata of a model."""

    metadata: Mapping[str, Value]
    nbytes: int
    """Of the whole file, or of all files where the model is split."""
    tensors: Mapping[str, tuple[int, ...]] = {}
    """Those of the file that was read, and their shapes: what is next in memory comes first."""

    @property
    def architecture(self) -> str:
        """llama.cpp's name for the kind of model."""
        return str(self.metadata.get("general.architecture", ""))

    def of_model(self, key: str) -> Value | None:
        """The value of a key that stands below the architecture's name."""
        return self.metadata.get(f"{self.architecture}.{key}")

    def count(self, key: str, default: int = 0) -> int:
        """The same, where it has to be a number; a list's largest."""
        value = self.of_model(key)
        if isinstance(value, list):
            value = max(value, default=default)
        return int(value) if isinstance(value, int | float) else default

    def per_layer(self, key: str, layers: int, default: int) -> list[int]:
        """A number for each layer: GGUF has one for all, or a list."""
        value = self.of_model(key)
        if isinstance(value, list) and len(value) == layers:
            return [int(one) for one in value]
        return [self.count(key, default)] * layers


def read_header(path: Path) -> GgufHeader:
    """What the head of the file at `path` says; raises `GgufError` or `OSError`."""
    with path.open("rb") as file:
        reader = _Reader(file)
        metadata = reader.metadata()
        tensors = reader.tensors(metadata.get("general.alignment"))
    return GgufHeader(metadata, sum(part.stat().st_size for part in parts(path)), tensors)


def objection(path: Path) -> str | None:
    """What keeps the file at `path` from being loaded, by its head; None where nothing does."""
    try:
        read_header(path)
    except (ValueError, OSError) as error:
        return f"{path} cannot be read as a GGUF file: {error}"
    return None


def parts(path: Path) -> list[Path]:
    """All files of a model, of which `path` is the first one; raises `GgufError`."""
    found = _SPLIT.fullmatch(path.name)
    if found is None:
        return [path]
    count = int(found["count"])
    files = [
        path.with_name(f"{found['stem']}-{number:05}-of-{count:05}.gguf")
        for number in range(1, count + 1)
    ]
    if int(found["number"]) != 1:
        raise GgufError(f"{path.name} is a part of a model; name its first one, {files[0].name}")
    if missing := [file.name for file in files if not file.is_file()]:
        raise GgufError(f"of {count} files {missing[0]} is missing")
    return files


class _Reader:
    """Steps through the head of a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._size = os.fstat(file.fileno()).st_size
        self._tensors = 0

    def metadata(self) -> dict[str, Value]:
        """All that is kept of it."""
        if (magic := self._file.read(4)) != MAGIC:
            raise GgufError(f"it begins with {magic!r}, and not with {MAGIC!r}")
        version = self._number("<I")
        if version not in _VERSIONS:
            raise GgufError(f"it has version {version}; versions 2 and 3 are known")
        self._tensors = int(self._number("<Q"))
        keys = int(self._number("<Q"))
        if keys > _MAX_KEYS:
            raise GgufError(f"it claims to have {keys} keys")
        found: dict[str, Value] = {}
        for _ in range(keys):
            key = self._string()
            value = self._value(int(self._number("<I")))
            if value is not None:
                found[key] = value
        return found

    def tensors(self, alignment: Value | None) -> dict[str, tuple[int, ...]]:
        """The shapes of all, which come after the metadata; refuses a file that was cut off."""
        shapes: dict[str, tuple[int, ...]] = {}
        end = 0
        for _ in range(self._possible(self._tensors, each=24)):
            name = self._string()
            dimensions = int(self._number("<I"))
            if dimensions > _MAX_DIMENSIONS:
                raise GgufError(f"its tensor {name!r} claims to have {dimensions} dimensions")
            shapes[name] = tuple(int(self._number("<Q")) for _ in range(dimensions))
            block, nbytes = _BLOCKS.get(int(self._number("<I")), (1, 0))
            end = max(end, int(self._number("<Q")) + prod(shapes[name]) // block * nbytes)
        step = alignment if isinstance(alignment, int) and alignment > 0 else _ALIGNMENT
        begin = -(-self._file.tell() // step) * step
        if shapes and begin + end > self._size:
            missing = begin + end - self._size
            raise GgufError(f"it was cut off: {missing} bytes are missing; fetch it again")
        return shapes

    def _value(self, kind: int) -> Value | None:
        if kind == _STRING:
            return self._string()
        if kind == _ARRAY:
            return self._array()
        return self._number(self._scalar(kind))

    def _array(self) -> Value | None:
        kind, count = int(self._number("<I")), int(self._number("<Q"))
        if kind == _STRING:
            for _ in range(self._possible(count, each=8)):
                self._skip(int(self._number("<Q")))
            return None
        if kind == _ARRAY:
            raise GgufError("it has lists of lists, which GGUF does not know")
        form = self._scalar(kind)
        length = struct.calcsize(form) * self._possible(count, each=struct.calcsize(form))
        if count > _MAX_LIST:
            self._skip(length)
            return None
        return list(struct.unpack(f"<{count}{form[1]}", self._bytes(length)))

    def _scalar(self, kind: int) -> str:
        if (form := _SCALARS.get(kind)) is None:
            raise GgufError(f"it has a value of the unknown type {kind}")
        return form

    def _number(self, form: str) -> bool | int | float:
        (number,) = struct.unpack(form, self._bytes(struct.calcsize(form)))
        result: bool | int | float = number
        return result

    def _string(self) -> str:
        return self._bytes(int(self._number("<Q"))).decode(errors="replace")

    def _bytes(self, length: int) -> bytes:
        content = self._file.read(self._possible(length, each=1))
        if len(content) < length:
            raise GgufError("it ends in the middle of its metadata")
        return content

    def _skip(self, length: int) -> None:
        self._file.seek(self._possible(length, each=1), os.SEEK_CUR)

    def _possible(self, count: int, *, each: int) -> int:
        """`count`, if the rest of the file can hold that many."""
        if count * each > self._size - self._file.tell():
            raise GgufError("it ends in the middle of its metadata")
        return count
