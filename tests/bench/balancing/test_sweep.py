"""The sweep varies what it says, and nothing else."""

from __future__ import annotations

from random import Random

import pytest

from bench.balancing.__main__ import main
from bench.balancing.engine import Machine
from bench.balancing.fleet import Fleet, Host, Prompts, Replica
from bench.balancing.sweep import PARAMETERS
from bench.balancing.traces import shared_prefixes


@pytest.mark.parametrize("name", PARAMETERS)
def test_every_value_makes_a_policy_that_picks(name):
    parameter = PARAMETERS[name]
    assert parameter.default is None or parameter.default in parameter.values
    turn = shared_prefixes(1, 1)[0].turns[0]
    for value in parameter.values:
        setting = parameter.setting(value)
        replicas = [Replica(Host(number, Machine())) for number in range(3)]
        fleet = Fleet(replicas, setting.policy(), Prompts(setting.ends), Random(1))
        first, tokens = fleet.pick(turn, b"", [], 0.0)
        again, _ = fleet.pick(turn, b"", [], 0.0)
        assert first is again or value == 0
        assert tokens > 7000


@pytest.mark.slow
def test_it_prints_a_row_for_each_value(capsys):
    short = ["--scale", "0.02", "--tolerance", "0.5", "--scenarios", "shared_prefixes"]
    assert main(["sweep", "full", *short]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert len(rows) == 1 + len(PARAMETERS["full"].values)
    assert sum(" * " in row for row in rows) == 1
