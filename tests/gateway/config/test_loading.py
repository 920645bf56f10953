"""Whole files: the one that ships, those in the documentation, and broken ones."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import pytest
import yaml
from jsonschema import Draft202012Validator

from backends.options import MlxOptions
from gateway.config import Config, ConfigErrors, load

ROOT = Path(__file__).parents[3]
SHIPPED = ROOT / "routing.yaml"

ENV = {
    "HOSTED_API_KEY": "sk-hosted",
    "ALICE_KEY": "sk-alice-123",
    "BOB_KEY": "sk-bob-12345",
    "TESTER_KEY": "sk-tester-1",
}

BASES = {
    "backends": """
backends:
  qwen: {use: vllm, replicas: [http://q]}
  small: {use: llama_server, replicas: [http://s]}
  hosted: {use: openai, replicas: [http://h]}
""",
    "models": "\nmodels: {any: {backend: qwen}}\n",
}
"""What an example leaves out."""


def uncommented(text: str) -> str:
    """The shipped file with its examples in use: what is commented out below a section."""
    return re.sub(r"(?m)^(  )# |^# (?=keys:|  )", r"\1", text)


def examples() -> list[str]:
    fences = re.findall(r"(?ms)^```yaml\n(.*?)^```", (ROOT / "docs/routing.md").read_text("utf-8"))
    return [
        fence + "".join(base for key, base in BASES.items() if f"\n{key}:" not in f"\n{fence}")
        for fence in fences
    ]


def test_the_shipped_file_serves_the_shipped_model() -> None:
    config = load(SHIPPED, {})
    assert list(config.models) == ["tiny-tale"]
    options = config.backends["tale"]
    assert isinstance(options, MlxOptions)
    assert options.model == str(ROOT / "models" / "tiny-tale")
    assert (config.server.host, config.server.port) == ("127.0.0.1", 8088)


def test_the_examples_in_the_shipped_file_are_right(
    load_text: Callable[..., Config], tmp_path: Path
) -> None:
    (tmp_path / "models" / "tiny-tale" / "tiny-tale-f32.gguf").touch()
    config = load_text(uncommented(SHIPPED.read_text("utf-8")), ENV)
    assert list(config.backends) == ["tale", "gguf", "qwen", "small", "started", "hosted"]
    assert list(config.models) == ["tiny-tale", "assistant", "qwen-*"]
    assert list(config.keys) == ["alice"]


def test_there_are_examples_in_the_documentation() -> None:
    assert len(examples()) >= 8


@pytest.mark.parametrize("text", examples(), ids=count(1))
def test_an_example_in_the_documentation_is_right(
    load_text: Callable[..., Config], tmp_path: Path, text: str
) -> None:
    (tmp_path / "models" / "tiny-tale" / "tiny-tale-f32.gguf").touch()
    load_text(text, ENV)


@pytest.mark.parametrize(
    "text",
    [SHIPPED.read_text("utf-8"), uncommented(SHIPPED.read_text("utf-8")), *examples()],
    ids=count(),
)
def test_the_files_fit_the_schema_that_editors_get(
    validator: Draft202012Validator, text: str
) -> None:
    """Read with plain YAML, as an editor does: references in braces need their quotes here."""
    validator.validate(yaml.safe_load(text))


def test_a_file_that_is_not_there_is_one_problem_without_a_line(tmp_path: Path) -> None:
    path = tmp_path / "none.yaml"
    with pytest.raises(ConfigErrors) as caught:
        load(path, {})
    assert str(caught.value) == f"{path}: no such file"


def test_a_syntax_error_has_its_line(problems: Callable[..., list[str]]) -> None:
    (problem,) = problems("models:\n  m: {backend: b\nbackends: {}\n")
    assert problem.startswith("routing.yaml:3: not valid YAML: ")


def test_the_same_file_gives_equal_configurations() -> None:
    assert load(SHIPPED, {}) == load(SHIPPED, {})


SCRAPS = (
    "null", "~", "yes", "-1", ".nan", ".inf", "1e999", "''", "[]", "{}", "[[]]", "{a: {b: c}}",
    "!!python/object:os.system x", "!x y", "*a", "&a", "${X}", "${", "$${x}", "\t", "\x00",
    "|\n  text", "? a", "- x", "---", "...", "%YAML 9.9", "<<: *a", "<<: 1", "\"\\x\"", "'", '"',
    "0x7f", "0777", "1:30", "2024-13-45", "2024-01-01", "=", "@", "`", "\ue000", "\ud7ff", "é",
    "9" * 400, "!!int x", "!!float []", "!!str [a]", "!!map a", "!!binary zzz", "!!timestamp 1",
    "x: &a [*a]", ": :", "# ", "\r", "\ufeff", "\u2028",
)  # fmt: skip


def replaced(rng: random.Random, scrap: str, match: re.Match[str]) -> str:
    return f": {scrap}" if rng.random() < 0.1 else match[0]


def mutations(text: str, rng: random.Random) -> Iterator[str]:
    """One change each: a part cut, doubled, moved or replaced, a scrap put in."""
    lines = text.splitlines(keepends=True)
    while True:
        at, to = sorted(rng.choices(range(len(text)), k=2))
        line, other = rng.randrange(len(lines)), rng.randrange(len(lines))
        scrap = rng.choice(SCRAPS)
        values = re.sub(r": [^\n]+", partial(replaced, rng, scrap), text)
        yield rng.choice(
            [
                text[:at] + text[to:],
                text[:at] + scrap + text[at:],
                text[:at] + scrap + text[min(to, at + 9) :],
                "".join([*lines[:line], lines[other], *lines[line:]]),
                "".join(it for n, it in enumerate(lines) if n != line),
                "".join(("  " if n == line else "") + it for n, it in enumerate(lines)),
                values,
            ]
        )


@pytest.mark.slow
def test_any_file_gives_a_configuration_or_problems_and_nothing_else(tmp_path: Path) -> None:
    text = re.sub(r"(?m)#.*\n", "\n", uncommented(SHIPPED.read_text("utf-8")))
    text = re.sub(r"\n\s*\n+", "\n", text)
    file = tmp_path / "models" / "tiny-tale" / "tiny-tale-f32.gguf"
    file.parent.mkdir(parents=True)
    file.touch()
    path = tmp_path / "routing.yaml"
    outcomes = {"fine": 0, "wrong": 0}
    changed = mutations(text, random.Random(20))
    for _ in range(400):
        mutant = next(changed)
        path.write_text(mutant, encoding="utf-8", newline="")
        try:
            config = load(path, ENV)
        except ConfigErrors as errors:
            outcomes["wrong"] += bool(errors.problems)
        except Exception as error:
            raise AssertionError(f"{error!r} from:\n{mutant}") from error
        else:
            outcomes["fine"] += isinstance(config, Config)
    assert sum(outcomes.values()) == 400
    assert min(outcomes.values()) >= 20
