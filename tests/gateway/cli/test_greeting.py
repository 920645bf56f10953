from __future__ import annotations

import json
import shlex
from pathlib import Path

from gateway.cli import greeting
from gateway.config import Config, load
from gateway.control.readiness import ReadinessReport

HTTP = "backends: {b: {use: openai, replicas: [http://h:1]}}\n"


def config(folder: Path, text: str) -> Config:
    path = folder / "routing.yaml"
    path.write_text(text, encoding="utf-8")
    return load(path, {"KEY": "sk-secret-1234"})


def ask(lines: list[str]) -> list[str]:
    (line,) = [line for line in lines if line.startswith("try it: ")]
    return shlex.split(line.removeprefix("try it: "))


READY = ReadinessReport(True, "ready", {})


def test_ready_says_where_and_what(tmp_path: Path) -> None:
    text = HTTP + "models: {'q-*': {backend: b}, m: {backend: b}, x: {backend: b, public: false}}"
    lines = greeting.ready(config(tmp_path, text), "127.0.0.1", 8088, 1.26, READY)
    assert lines[:2] == ["ready: base_url=http://127.0.0.1:8088/v1 after 1.3 s", "models: q-*, m"]
    command = ask(lines)
    assert command[1] == "http://127.0.0.1:8088/v1/chat/completions"
    assert json.loads(command[-1])["model"] == "m"
    assert not any("Authorization" in word for word in command)


def test_what_to_try_is_quoted_and_needs_a_key(tmp_path: Path) -> None:
    text = HTTP + "models: {\"it's\": {backend: b}}\nkeys: {alice: {value: '${KEY}'}}"
    command = ask(greeting.ready(config(tmp_path, text), "127.0.0.1", 1, 0, READY))
    assert json.loads(command[-1])["model"] == "it's"
    assert "Authorization: Bearer KEY" in command


def test_there_may_be_nothing_to_try(tmp_path: Path) -> None:
    lines = greeting.ready(config(tmp_path, HTTP + "models: {'*': {backend: b}}"), "h", 1, 0, READY)
    assert not any(line.startswith("try it") for line in lines)


def test_an_address_that_cannot_be_called_is_not_suggested(tmp_path: Path) -> None:
    found = config(tmp_path, HTTP + "models: {m: {backend: b}}")
    lines = greeting.ready(found, "::", 8088, 0, READY)
    assert lines[0].startswith("ready: base_url=http://[::]:8088/v1")
    assert ask(lines)[1] == "http://[::1]:8088/v1/chat/completions"
    assert "127.0.0.1:8088" in ask(greeting.ready(found, "0.0.0.0", 8088, 0, READY))[1]


def test_many_models_do_not_fill_the_screen(tmp_path: Path) -> None:
    models = ", ".join(f"m{number}: {{backend: b}}" for number in range(12))
    lines = greeting.ready(
        config(tmp_path, HTTP + f"models: {{{models}}}"), "127.0.0.1", 1, 0, READY
    )
    assert lines[1].endswith("m8, m9 and 2 more")


def test_what_is_not_ready_is_not_called_so(tmp_path: Path) -> None:
    found = config(tmp_path, HTTP + "models: {m: {backend: b}}")
    said = ReadinessReport(False, "no model has a replica", {"m": "b@h: connection refused"})
    assert greeting.ready(found, "127.0.0.1", 8088, 0.1, said) == [
        "not ready: base_url=http://127.0.0.1:8088/v1 after 0.1 s: no model has a replica",
        "m: b@h: connection refused",
    ]
