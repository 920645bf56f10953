from __future__ import annotations

import pytest

from backends.units import Timeout
from gateway.__main__ import main
from gateway.cli.budget import Load, judged, table
from gateway.config.structs import LatencyBudget
from gateway.telemetry import names

FILE = """
backends:
  qwen: {use: vllm, replicas: [http://10.0.0.1:8000, http://10.0.0.2:8000]}
  small: {use: llama_server, replicas: [http://127.0.0.1:8080]}
  away: {use: vllm, discover: {dns: "http://engines.internal:8000"}}
models:
  found: {backend: away}
  assistant: {backend: qwen, aliases: [gpt], budget: {ttft: 500ms, total: 8s}}
  tiny: {backend: small, concurrency: 4}
"""
LOAD = Load(prompt=2000, output=300, concurrency=8, prefill=4000, decode=60, replicas=2)


@pytest.fixture
def budget(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "routing.yaml").write_text(FILE)
    fields = {"prompt": 2000, "output": 300, "concurrency": 8, "prefill": 3000, "decode": 60}

    def run(model="assistant", **other):
        given = [f"--{name}={value}" for name, value in (fields | other).items()]
        code = main(["budget", model, *given])
        return code, capsys.readouterr()

    return run


def test_the_arithmetic():
    assert (LOAD.each, LOAD.prefill_time, LOAD.decode_time) == (4, 0.5, 5.0)
    assert LOAD.queue(3) == 1.5
    assert LOAD.most(1.2) == 4
    # Two replicas, four at a time each: 0.75 s of queue on average, 0.5 s and 5 s.
    assert LOAD.rate == pytest.approx(2 * 4 / 6.25)


def test_prompts_alone_may_be_what_bounds_it():
    load = Load(prompt=4000, output=1, concurrency=100, prefill=1000, decode=1000, replicas=1)
    assert load.rate <= 1 / 4


def test_the_table():
    lines = table(LOAD).splitlines()
    assert lines[0].split() == ["alone", "average", "last"]
    assert lines[1].split() == ["queue", "0", "ms", "750", "ms", "1.50", "s"]
    assert lines[3].split() == ["first", "token", "500", "ms", "1.25", "s", "2.00", "s"]
    assert lines[-1] == "8 at a time on 2 replicas: 1.28 requests/s, 384 tokens/s"


@pytest.mark.parametrize(
    ("ttft", "total", "said"),
    [
        (2.0, None, ["budget.ttft 2.00 s: kept; up to 8 at a time keep it"]),
        (1.0, None, ["budget.ttft 1.00 s: over by 1.00 s; up to 4 at a time keep it"]),
        (0.1, None, ["budget.ttft 100 ms: over by 1.90 s; not even one alone keeps it"]),
        (None, 7.0, ["budget.total 7.00 s: kept; up to 8 at a time keep it"]),
        (None, 4.0, ["budget.total 4.00 s: over by 3.00 s; not even one alone keeps it"]),
        (None, None, []),
    ],
)
def test_what_a_budget_comes_to(ttft, total, said):
    bounds = [None if one is None else Timeout(one) for one in (ttft, total)]
    assert [one for one, _ in judged(LOAD, LatencyBudget(ttft=bounds[0], total=bounds[1]))] == said


def test_a_load_that_does_not_fit_is_an_exit_code(budget):
    code, said = budget()
    assert code == 1
    assert "budget.ttft 500 ms: over by" in said.out
    assert "8 at a time on 2 replicas" in said.out
    assert budget("gpt", prompt=100, output=10)[0] == 0


def test_a_model_without_a_budget_or_with_fewer_places(budget):
    code, said = budget("tiny")
    assert code == 0
    assert said.out.splitlines()[-2:] == [
        "tiny has no `budget` that this could keep",
        "concurrency 4: no more are begun at a time; the others wait first",
    ]
    assert "concurrency 4" not in budget("tiny", concurrency=4)[1].out


def test_the_help_says_what_it_is_for_and_where_rates_come_from(capsys):
    with pytest.raises(SystemExit):
        main(["budget", "--help"])
    said = capsys.readouterr().out
    assert "keeps its `budget`" in said
    assert names.REPLICA_PREFILL_RATE in said
    assert names.REPLICA_DECODE_RATE in said


def test_replicas_may_be_given(budget):
    assert "on 5 replicas" in budget(replicas=5)[1].out


def test_how_many_are_discovered_is_to_be_said(budget):
    code, said = budget("found")
    assert code == 2
    assert "--replicas" in said.err
    assert "on 3 replicas" in budget("found", replicas=3)[1].out


def test_a_model_that_is_not_there(budget):
    code, said = budget("nobody")
    assert code == 2
    assert 'no model is called "nobody"; there is found, assistant, tiny' in said.err
    assert 'did you mean "assistant"?' in budget("asistant")[1].err


@pytest.mark.parametrize(
    ("name", "value"),
    [("prompt", 0), ("output", "-1"), ("concurrency", "x"), ("prefill", 0), ("decode", "nan")],
)
def test_numbers_that_mean_nothing(budget, name, value):
    with pytest.raises(SystemExit) as left:
        budget(**{name: value})
    assert left.value.code == 2


def test_a_file_with_mistakes(budget, tmp_path):
    (tmp_path / "routing.yaml").write_text("models: {}")
    code, said = budget()
    assert code == 2
    assert "backends" in said.err
