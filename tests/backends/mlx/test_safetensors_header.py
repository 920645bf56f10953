import json

import pytest

from backends.mlx.safetensors_header import BrokenWeights, Tensor, read_headers


def write(path, header, data=b"", *, length=None):
    raw = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes((len(raw) if length is None else length).to_bytes(8, "little") + raw + data)


def entry(begin, end, dtype="F32"):
    return {"dtype": dtype, "shape": [(end - begin) // 4], "data_offsets": [begin, end]}


def test_the_model_that_ships(model_dir):
    tensors = read_headers(model_dir)
    size = (model_dir / "model.safetensors").stat().st_size
    assert {tensor.dtype for tensor in tensors.values()} == {"F32"}
    assert 0 < size - sum(tensor.nbytes for tensor in tensors.values()) < 10_000


def test_the_tensors_of_all_parts(tmp_path):
    unsaid = {"a": entry(0, 8), "__metadata__": None}  # as MLX writes it
    write(tmp_path / "model-00001-of-00002.safetensors", unsaid, b"\0" * 8)
    write(
        tmp_path / "model-00002-of-00002.safetensors",
        {"b": entry(0, 4, "U32"), "__metadata__": {"format": "mlx"}},
        b"\0" * 4,
    )
    assert read_headers(tmp_path) == {
        "a": Tensor("F32", 8, (2,)),
        "b": Tensor("U32", 4, (1,)),
    }


def test_a_file_that_was_cut_off_says_how_much_is_missing(tmp_path):
    write(tmp_path / "model.safetensors", {"a": entry(0, 100)}, b"\0" * 60)
    with pytest.raises(BrokenWeights, match="was cut off: 40 bytes are missing"):
        read_headers(tmp_path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\0" * 100, b"GGUF" + b"\xff" * 50, b"version https://git-lfs.github.com/spec/v1\n"],
)
def test_what_is_no_safetensors(tmp_path, content):
    (tmp_path / "model.safetensors").write_bytes(content)
    with pytest.raises(BrokenWeights, match="is no safetensors file, or was cut off"):
        read_headers(tmp_path)


@pytest.mark.parametrize(
    "header",
    [
        b"{nonsense",
        b"[1, 2]",
        b"[" * 4000,
        {"a": 1},
        {"a": {}},
        {"a": {"dtype": "F32", "data_offsets": [0]}},
        {"a": {"dtype": "F32", "data_offsets": ["x", {}]}},
    ],
)
def test_a_broken_header(tmp_path, header):
    write(tmp_path / "model.safetensors", header)
    with pytest.raises(BrokenWeights, match="its header is broken"):
        read_headers(tmp_path)


def test_a_length_that_is_not_there(tmp_path):
    write(tmp_path / "model.safetensors", {}, length=2**40)
    with pytest.raises(BrokenWeights, match="cut off"):
        read_headers(tmp_path)
