"""The comparison on real engines, once, and short."""

from __future__ import annotations

import msgspec
import pytest

from bench.balancing.__main__ import main
from bench.balancing.real import compare
from bench.balancing.real.compare import POLICIES, Line, table
from bench.balancing.real.load import SHARED, UNSHARED
from tests.support import engines


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(600)
def test_affinity_finds_more_in_the_engines_caches_than_turns_do(monkeypatch, capsys):
    engines.require(engines.LLAMA_SERVER)
    short = {"requests": 16, "prefix_words": 400}
    monkeypatch.setattr(compare, "SHARED", msgspec.structs.replace(SHARED, prefixes=4, **short))
    monkeypatch.setattr(compare, "UNSHARED", msgspec.structs.replace(UNSHARED, requests=4))
    arguments = ["real", "--rounds", "1", "--engines", "2", "--slots", "3", "--clients", "2"]
    assert main([*arguments, "--json"]) == 0
    lines = msgspec.json.decode(capsys.readouterr().out, type=list[Line])
    assert [line.policy for line in lines] == [*POLICIES, *POLICIES]
    shared = {line.policy: line for line in lines[:3]}
    assert shared["prefix_affinity"].cached > shared["round_robin"].cached
    assert all(line.cached < 0.1 for line in lines[3:])


def test_the_table_has_a_row_for_each_line():
    line = Line("a load", "round_robin", 2.0, 3.0, 1.0, 1.0, 0.25, 100.0, 200.0, 1.0)
    head, row = table([line]).splitlines()
    assert head.startswith("load")
    assert "100 / 200" in row
    assert "25%" in row
