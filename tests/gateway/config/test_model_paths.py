from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from gateway.config import Config

Problems = Callable[..., list[str]]
Load = Callable[..., Config]


def mlx(model: str) -> str:
    return f"backends: {{b: {{use: mlx, model: '{model}'}}}}\nmodels: {{m: {{backend: b}}}}\n"


@pytest.mark.parametrize("model", ["models/tiny-tale", "./models/tiny-tale", "~/models/tiny-tale"])
def test_a_directory_is_found_beside_the_file(
    load_text: Load, tmp_path: Path, model: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    config = load_text(mlx(model), {"HOME": str(tmp_path)})
    assert config.backends["b"].model == str(tmp_path / "models" / "tiny-tale")


def test_an_absolute_directory_is_taken_as_it_is(load_text: Load, tmp_path: Path) -> None:
    config = load_text(mlx(str(tmp_path / "models" / "tiny-tale")))
    assert config.backends["b"].model == str(tmp_path / "models" / "tiny-tale")


def test_what_is_no_directory_is_a_hub_id(load_text: Load) -> None:
    config = load_text(mlx("mlx-community/Qwen3-4B-4bit"))
    assert config.backends["b"].model == "mlx-community/Qwen3-4B-4bit"


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("models/tiny-tael", 'there is no directory models/tiny-tael; did you mean "tiny-tale"?'),
        ("./nowhere/x", "there is no directory nowhere/x"),
        ("../nowhere/x", "there is no directory"),
        ("/nowhere/x", "there is no directory /nowhere/x"),
        ("~/nowhere", "there is no directory"),
        ("tiny-tale", '"tiny-tale" is neither a directory beside this file nor a hub id'),
        ("a/b/c", "neither a directory beside this file nor a hub id such as org/name"),
        ("https://hub/a", "neither a directory"),
        ("routing.yaml", "expected the directory of an MLX model, found the file routing.yaml"),
        ("x" * 5000, "cannot be looked at"),
        ("", "backends.b.model: expected text, found nothing"),
    ],
)
def test_a_model_that_is_nowhere_is_told_with_the_path(
    problems: Problems, model: str, said: str
) -> None:
    (problem,) = problems(mlx(model), {"HOME": "/nowhere/home"})
    assert problem.startswith("routing.yaml:1: backends.b.model: ")
    assert said in problem


def test_a_nul_in_a_path_is_told(problems: Problems) -> None:
    text = mlx("X").replace("'X'", '"a\\0b"')
    assert "NUL" in problems(text)[0]


def gguf(model: str) -> str:
    return f"backends: {{b: {{use: llama_cpp, model: '{model}'}}}}\nmodels: {{m: {{backend: b}}}}\n"


@pytest.fixture
def gguf_file(load_text: Load, tmp_path: Path) -> Path:
    file = tmp_path / "models" / "tiny-tale" / "tiny.gguf"
    file.touch()
    return file


@pytest.mark.parametrize("start", ["", "./", "~/"])
def test_a_gguf_file_is_found_beside_the_file(
    load_text: Load, tmp_path: Path, gguf_file: Path, start: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir("/")
    config = load_text(gguf(start + "models/tiny-tale/tiny.gguf"), {"HOME": str(tmp_path)})
    assert config.backends["b"].model == str(gguf_file)


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("models/tiny-tale/tyni.gguf", 'tyni.gguf; did you mean "tiny.gguf"?'),
        ("org/name", "there is no file org/name"),
        ("models/tiny-tale", "expected a .gguf file, found the directory"),
        ("models/tiny-tale", "; did you mean tiny.gguf in it?"),
        ("x" * 5000, "cannot be looked at"),
    ],
)
def test_a_gguf_file_that_is_nowhere_is_told(
    problems: Problems, gguf_file: Path, model: str, said: str
) -> None:
    (problem,) = problems(gguf(model))
    assert problem.startswith("routing.yaml:1: backends.b.model: ")
    assert said in problem


def test_a_directory_of_safetensors_is_for_another_engine(
    problems: Problems, gguf_file: Path
) -> None:
    gguf_file.unlink()
    (gguf_file.parent / "model.safetensors").touch()
    (problem,) = problems(gguf("models/tiny-tale"))
    assert "safetensors are served with `use: mlx`" in problem
