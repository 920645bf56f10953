from __future__ import annotations

import numpy as np
import pytest

from backends.llama_cpp.gguf_adapter import check_adapter
from backends.llama_cpp.gguf_header import GgufError
from tests.support.engines import GGUF
from tests.support.gguf import write_gguf

SHIPPED = GGUF.parent / "adapters" / "a" / "adapter.gguf"
LORA = {"general.architecture": "llama", "general.type": "adapter", "adapter.type": "lora"}


def test_the_shipped_one_is_one_of_the_shipped_model():
    check_adapter(SHIPPED, GGUF)
    check_adapter(SHIPPED, None)


def test_what_is_wrong_with_the_model_is_for_others_to_say(tmp_path):
    (tmp_path / "m.gguf").write_bytes(b"")
    check_adapter(SHIPPED, tmp_path / "m.gguf")


def test_a_whole_model_is_none():
    with pytest.raises(GgufError, match=r"is no adapter: it has no general\.type"):
        check_adapter(GGUF, GGUF)


def test_safetensors_are_told_how_to_become_one(tmp_path):
    file = tmp_path / "adapter_model.safetensors"
    file.write_bytes(b"\x10\0\0\0\0\0\0\0{}")
    with pytest.raises(GgufError, match=r"safetensors is no GGUF.*convert_lora_to_gguf"):
        check_adapter(file, None)


def test_half_an_adapter_is_none(tmp_path):
    half = tmp_path / "half.gguf"
    half.write_bytes(SHIPPED.read_bytes()[:-100])
    with pytest.raises(GgufError, match=r"half\.gguf.* was cut off: \d+ bytes are missing"):
        check_adapter(half, GGUF)


@pytest.mark.parametrize(
    ("metadata", "side", "shape", "said"),
    [
        ({"adapter.type": "other"}, "a", (4, 128), "is no LoRA adapter: its adapter.type is"),
        ({"general.architecture": "gemma"}, "a", (4, 128), "of the architecture 'gemma'"),
        ({}, "a", (4, 96), "has 96 inputs, the model's blk.0.attn_q.weight has 128"),
        ({}, "b", (96, 4), "has 96 outputs, the model's blk.0.attn_q.weight has 128"),
    ],
)
def test_one_of_another_model_is_refused(tmp_path, metadata, side, shape, said):
    tensor = {f"blk.0.attn_q.weight.lora_{side}": np.zeros(shape, np.float32)}
    file = write_gguf(tmp_path / "x.gguf", {**LORA, **metadata}, tensor)
    with pytest.raises(GgufError, match=said):
        check_adapter(file, GGUF)
