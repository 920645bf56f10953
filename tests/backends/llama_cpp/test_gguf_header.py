import struct

import numpy as np
import pytest

from backends.llama_cpp.gguf_header import GgufError, parts, read_header
from tests.support.engines import GGUF
from tests.support.gguf import write_gguf


def test_the_shipped_model_tells_its_shape():
    header = read_header(GGUF)
    assert header.architecture == "llama"
    assert header.count("context_length") == 4096
    assert header.count("attention.head_count_kv") == 2
    assert header.nbytes == GGUF.stat().st_size
    assert "<|im_start|>" in header.metadata["tokenizer.chat_template"]


def test_every_kind_of_value_is_read_and_a_vocabulary_stepped_over(tmp_path):
    file = write_gguf(
        tmp_path / "m.gguf",
        {
            "general.architecture": "x",
            "x.flag": True,
            "x.number": 7,
            "x.share": 0.5,
            "x.list": [1, 2, 3],
            "x.shares": [0.25, 0.5],
            "words": ["a", "bc", ""],
            "long": list(range(5000)),
            "x.last": "end",
        },
        {"t": np.zeros((2, 3), np.float32)},
    )
    header = read_header(file)
    assert header.of_model("flag") is True
    assert header.count("number") == 7
    assert header.of_model("share") == 0.5
    assert header.of_model("list") == [1, 2, 3]
    assert header.count("list") == 3
    assert header.of_model("shares") == [0.25, 0.5]
    assert header.of_model("last") == "end"
    assert "words" not in header.metadata
    assert "long" not in header.metadata
    assert header.per_layer("list", 3, 9) == [1, 2, 3]
    assert header.per_layer("number", 2, 9) == [7, 7]
    assert header.per_layer("nothing", 2, 9) == [9, 9]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "begins with b''"),
        (b"PK\x03\x04rest", "begins with b'PK"),
        (b"GGUF", "ends in the middle"),
        (struct.pack("<4sIQQ", b"GGUF", 1, 0, 0), "version 1"),
        (struct.pack(">4sIQQ", b"GGUF", 3, 0, 0), "versions 2 and 3 are known"),
        (struct.pack("<4sIQQ", b"GGUF", 3, 0, 2**60), "claims to have"),
        (struct.pack("<4sIQQQ", b"GGUF", 3, 0, 1, 2**62), "ends in the middle"),
        (struct.pack("<4sIQQQ1sI", b"GGUF", 3, 0, 1, 1, b"k", 99), "unknown type 99"),
        (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 4, 2**61), "in the middle"),
        (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 8, 2**61), "in the middle"),
        (struct.pack("<4sIQQQ1sIIQ", b"GGUF", 3, 0, 1, 1, b"k", 9, 9, 1), "lists of lists"),
    ],
)
def test_what_is_no_gguf_file_is_told_and_not_believed(tmp_path, content, said):
    file = tmp_path / "m.gguf"
    file.write_bytes(content)
    with pytest.raises(GgufError, match=said):
        read_header(file)


def test_a_file_cut_anywhere_in_its_metadata_is_told(tmp_path):
    whole = GGUF.read_bytes()
    for length in range(0, 20_000, 997):
        file = tmp_path / "cut.gguf"
        file.write_bytes(whole[:length])
        with pytest.raises(GgufError):
            read_header(file)


class TestParts:
    def test_a_model_in_one_file_has_one(self, tmp_path):
        assert parts(tmp_path / "m.gguf") == [tmp_path / "m.gguf"]

    def test_the_first_part_leads_to_the_others(self, tmp_path):
        files = [tmp_path / f"m-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
        for file in files:
            file.touch()
        assert parts(files[0]) == files
        with pytest.raises(GgufError, match="name its first one, m-00001-of-00003"):
            parts(files[1])
        files[2].unlink()
        with pytest.raises(GgufError, match=r"of 3 files m-00003-of-00003\.gguf is missing"):
            parts(files[0])


def test_a_file_that_lacks_some_of_its_weights_is_refused(tmp_path):
    (tmp_path / "m.gguf").write_bytes(GGUF.read_bytes()[:-1])
    with pytest.raises(GgufError, match="was cut off: 1 bytes are missing"):
        read_header(tmp_path / "m.gguf")


def test_shapes_are_those_of_the_tensors():
    assert read_header(GGUF).tensors["blk.0.attn_q.weight"] == (128, 128)
