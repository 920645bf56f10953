"""A short run end to end, as the command does it."""

from __future__ import annotations

import json

import pytest

from bench.balancing import simulate
from bench.balancing.__main__ import main
from bench.balancing.scenarios import SCENARIOS, Stage
from gateway.policies import POLICIES

SHORT = ["--seeds", "1", "--tolerance", "0.1", "--scale"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("scenario", "scale", "targets"), [("shared_prefixes", "0.4", 2), ("mixed_lengths", "0.1", 9)]
)
def test_prefix_affinity_keeps_to_its_targets_on_short_traces(scenario, scale, targets, capsys):
    policies = ["round_robin", "least_outstanding", "prefix_affinity"]
    code = main([scenario, *SHORT, scale, "--json", "--policies", *policies])
    report = json.loads(capsys.readouterr().out)
    assert [line["policy"] for line in report["lines"]] == policies
    assert len(report["targets"]) == targets
    assert code == 0, report["targets"]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda scenario: scenario.name)
@pytest.mark.parametrize("policy", sorted(POLICIES))
def test_every_policy_plays_every_scenario(scenario, policy):
    found = Stage(scenario, seeds=1, scale=0.01).play(POLICIES[policy], 1.0)
    assert found.ttft_p95 < 60
    assert found.imbalance >= 1


def test_a_missed_target_is_told_and_makes_the_code(monkeypatch, capsys):
    missed = simulate.Target("shared_prefixes", "something", 1.0, 1.5, at_least=True)
    monkeypatch.setattr(simulate, "targets", lambda *_: [missed])
    assert main(["shared_prefixes", *SHORT, "0.1", "--policies", "round_robin"]) == 1
    out = capsys.readouterr().out
    assert "MISSED" in out
    assert "at least 1.5" in out
