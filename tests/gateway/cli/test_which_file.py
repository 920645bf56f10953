from __future__ import annotations

from pathlib import Path

import pytest

from gateway.__main__ import main
from gateway.cli.which_file import chosen


def test_the_one_that_is_named_then_the_one_here_then_the_one_that_ships(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert chosen(Path("x.yaml")) == Path("x.yaml")
    shipped = chosen(None)
    assert shipped.is_file()
    assert "embedded" in shipped.parts
    (tmp_path / "routing.yaml").touch()
    assert chosen(None) == Path("routing.yaml")


@pytest.mark.parametrize("command", ["check", "plan"])
def test_commands_tell_of_what_is_served_without_a_file(tmp_path, monkeypatch, capsys, command):
    monkeypatch.chdir(tmp_path)
    assert main([command]) == 0
    assert "tale" in capsys.readouterr().out
