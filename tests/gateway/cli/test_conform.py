"""The command on whole configurations: what it prints, and how it ends."""

from __future__ import annotations

import json

import pytest

from gateway.__main__ import main
from tests.support.engines import GGUF, LLAMA_SERVER, MODEL, MODEL_DIR, require
from tests.support.voices import A


@pytest.fixture
def conform(tmp_path, capsys):
    """Run the command on a file; the exit code, standard output and standard error."""

    def run(text, *arguments):
        path = tmp_path / "routing.yaml"
        path.write_text(text)
        code = main(["conform", *arguments, "--file", str(path)])
        return code, *capsys.readouterr()

    return run


TALE = f"""
backends:
  tale: {{use: mlx, model: {MODEL_DIR}}}
  gone: {{use: openai, replicas: ["http://127.0.0.1:1"]}}
models:
  tiny: {{backend: tale, aliases: [small]}}
  dead: {{backend: gone}}
  both: {{variants: {{a: {{backend: tale}}, b: {{backend: gone}}}}}}
"""


@pytest.mark.slow
def test_an_engine_that_keeps_its_promises(conform):
    code, out, err = conform(TALE, "small")
    assert code == 0, err
    header, *rows = out.split("\n\n", maxsplit=1)[0].splitlines()
    assert header.split() == ["tale@in-process"]
    kept = {row.split("  ")[0]: row.split("  ", 1)[1].strip() for row in rows}
    assert kept["messages"] == kept["responses"] == kept["count_tokens"] == "translated"
    assert kept["chat"] == kept["stream: chat"] == kept["stop"] == "kept"
    assert kept["cancel: stream"].startswith("free after")
    # The other engine is none of this model's business: nobody waits for it.
    assert "gone" not in out + err
    assert "tale@in-process: chat: kept" in err


@pytest.mark.slow
def test_as_json_and_beside_one_that_is_dead(conform):
    code, out, err = conform(TALE, "both", "--json", "--wait", "0")
    assert code == 1
    report = json.loads(out)
    dead = [one for one in report["findings"] if one["target"] == "gone@127.0.0.1:1"]
    assert [(one["check"], one["outcome"]) for one in dead] == [("ready", "broken")]
    assert "broken: gone@127.0.0.1:1: ready" in err


def test_a_model_that_is_not_there_is_a_mistake(conform):
    code, out, err = conform(TALE, "tony")
    assert (code, out) == (2, "")
    assert 'there is no model "tony" in it; did you mean "tiny"?' in err
    assert "it has tiny, dead, both" in conform(TALE, "nope")[2]


def test_a_file_with_mistakes(conform):
    code, _, err = conform(TALE.replace("use: mlx", "use: mlkx"), "tiny")
    assert code == 2
    assert 'did you mean "mlx"?' in err


def test_an_engine_that_cannot_be_started(conform, tmp_path):
    (tmp_path / "empty").mkdir()
    code, out, err = conform(TALE.replace(str(MODEL_DIR), "empty"), "tiny")
    assert code == 1
    assert "backend 'tale'" in err
    assert "ready  broken" in out


def test_one_that_cannot_be_started_keeps_nobody_from_being_tried(conform, tmp_path):
    (tmp_path / "empty").mkdir()
    text = TALE.replace(str(MODEL_DIR), "empty")
    code, out, _ = conform(text, "both", "--json", "--wait", "0")
    assert code == 1
    said = {one["target"]: one for one in json.loads(out)["findings"]}
    assert said["tale@in-process"]["detail"].startswith("backend 'tale'")
    assert "refused" in said["gone@127.0.0.1:1"]["detail"]


def test_one_that_does_not_fit_into_memory_keeps_nobody_from_being_tried(conform, monkeypatch):
    monkeypatch.setattr("gateway.control.engines.machine_memory", lambda: 64 << 20)
    code, out, err = conform(TALE, "both", "--json", "--wait", "0")
    assert code == 1
    said = {one["target"]: one for one in json.loads(out)["findings"]}
    assert (said["tale"]["check"], said["tale"]["outcome"]) == ("ready", "broken")
    assert "and there are 64.0 MiB" in said["tale"]["detail"]
    assert "broken: tale: ready: loading this needs" in err
    assert "refused" in said["gone@127.0.0.1:1"]["detail"]


def test_a_share_is_between_nothing_and_all(conform):
    with pytest.raises(SystemExit) as left:
        conform(TALE, "tiny", "--agree", "1.5")
    assert left.value.code == 2


@pytest.mark.slow
def test_an_adapter_is_asked_for_as_such(conform, start_llama_server):
    server = start_llama_server("--lora-scaled", f"{A}/adapter.gguf:0")
    text = f"""
backends:
  gpu: {{use: llama_server, replicas: ["{server.url}"], model: {MODEL}, adapters: {{a: "{A}"}}}}
models:
  base: {{backend: gpu}}
"""
    code, out, err = conform(text, "base", "base:a", "--json")
    assert code == 0, err
    report = json.loads(out)
    replica = f"gpu@127.0.0.1:{server.port}"
    names = [f"{replica} as {MODEL}", f"{replica} as {MODEL}:a"]
    assert list(dict.fromkeys(one["target"] for one in report["findings"])) == names
    (agreement,) = report["agreements"]
    assert agreement["share"] < 1, "the adapter says the same as the model"


@pytest.mark.slow
@pytest.mark.engine
def test_an_engine_that_sleeps_is_woken(conform):
    binary = require(LLAMA_SERVER)
    text = f"""
backends:
  gpu:
    use: llama_server
    model: {MODEL}
    launch: {{command: {binary}, model: {GGUF}, preload: false, args: [--parallel, "2"]}}
models:
  tiny: {{backend: gpu}}
"""
    code, _, err = conform(text, "tiny")
    assert code == 0, err
    assert "gpu@0: chat: kept" in err


@pytest.mark.slow
def test_an_adapter_that_could_not_be_loaded_is_told_with_the_reason(conform, start_llama_server):
    server = start_llama_server()
    text = f"""
backends:
  gpu: {{use: llama_server, replicas: ["{server.url}"], model: {MODEL}, adapters: {{a: "{A}"}}}}
models:
  base: {{backend: gpu}}
"""
    code, _, err = conform(text, "base:a")
    assert code == 1, err
    assert "ready: broken: it lacks the adapter 'a': " in err
    assert "llama-server loads them at its start only" in err


@pytest.mark.slow
def test_replicas_that_are_told_elsewhere_are_tried_and_none_is_no_success(conform, tmp_path):
    text = """\
backends:
  found: {use: openai, model: m, discover: {file: here.json}}
  lost: {use: openai, model: m, discover: {file: nowhere.json}}
models:
  both: {variants: {a: {backend: found}, b: {backend: lost}}}
"""
    (tmp_path / "here.json").write_text('["http://127.0.0.1:1"]')
    code, out, _ = conform(text, "both", "--json", "--wait", "0")
    assert code == 1
    said = {one["target"]: one for one in json.loads(out)["findings"]}
    assert "refused" in said["found@127.0.0.1:1"]["detail"]
    assert "nowhere.json cannot be read: No such file" in said["lost"]["detail"]
