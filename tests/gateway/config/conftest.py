from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator

from gateway.config import Config, ConfigErrors, load, schema


@pytest.fixture(scope="session")
def validator() -> Draft202012Validator:
    """The schema that editors get: made once, for that reads the source of every option."""
    made = schema()
    Draft202012Validator.check_schema(made)
    return Draft202012Validator(made)


@pytest.fixture
def load_text(tmp_path: Path) -> Callable[..., Config]:
    """Load a text as routing.yaml in a directory of its own that has `models/tiny-tale/`."""
    (tmp_path / "models" / "tiny-tale").mkdir(parents=True)

    def load_text(text: str, env: Mapping[str, str] | None = None) -> Config:
        path = tmp_path / "routing.yaml"
        path.write_text(text, encoding="utf-8")
        return load(path, env or {})

    return load_text


@pytest.fixture
def problems(load_text: Callable[..., Config], tmp_path: Path) -> Callable[..., list[str]]:
    """What is said about a text that is wrong, without the name of the directory."""

    def problems(text: str, env: Mapping[str, str] | None = None) -> list[str]:
        with pytest.raises(ConfigErrors) as caught:
            load_text(text, env)
        lines = str(caught.value).replace(str(tmp_path) + "/", "").splitlines()
        assert len(lines) == len(caught.value.problems)
        return lines

    return problems
