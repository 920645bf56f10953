"""LoRA adapters on MLX, in a thread and in a process: swapped under load, back after a crash."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import signal

import pytest

from bench.chaos.engines import is_isolated
from bench.chaos.vitals import below
from tests.support.engines import MODEL_DIR
from tests.support.voices import A, B, Traffic, ask, voice

ADMIN = "/admin/backends/mac/adapters"
MODEL = MODEL_DIR

pytestmark = pytest.mark.slow


def routing(adapter="v1", adapters=None, **engine):
    named = {"v1": str(A), "v2": str(B)} if adapters is None else adapters
    backend = {"use": "mlx", "model": str(MODEL), "adapters": named, **engine}
    return json.dumps(
        {
            "backends": {"mac": backend},
            "models": {
                "base": {"backend": "mac"},
                "sql": {"variants": {"stable": {"backend": "mac", "adapter": adapter}}},
            },
        }
    )


def admin(gateway, method, path="", body=None):
    status, _, answer = gateway.request(method, ADMIN + path, body)
    return status, json.loads(answer)


def child_of(gateway):
    """The process id of its engine; None while there is none."""
    return next(filter(is_isolated, below(gateway.child.pid)), None)


@pytest.mark.parametrize("isolation", ["thread", "process"])
async def test_adapters_change_under_load(tmp_path, start_gateway, isolation):
    engine = {"isolation": isolation}
    gateway = start_gateway(routing(**engine), env={"XDG_STATE_HOME": str(tmp_path)})
    async with Traffic(gateway, ("sql", "base"), clients=16) as traffic:
        await traffic.until("sql", "a")
        gateway.rewrite(routing("v2", **engine))
        await traffic.until("sql", "b")
        gateway.rewrite(routing("v1", **engine))
        await traffic.until("sql", "a")
        for path, heard in ((B, "b"), (A, "a")):
            status, told = await asyncio.to_thread(
                admin, gateway, "POST", "", {"name": "v1", "path": str(path)}
            )
            assert status == 200, told
            await traffic.until("sql", heard)
    assert not traffic.failures
    assert {who for model, who in traffic.heard if model == "base"} == {"base"}
    assert {who for model, who in traffic.heard if model == "sql"} == {"a", "b"}


def test_a_model_with_each_of_its_adapters(start_gateway):
    gateway = start_gateway(routing())
    heard = {model: voice(gateway, model) for model in ("base", "base:v1", "base:v2", "sql")}
    assert heard == {"base": "base", "base:v1": "a", "base:v2": "b", "sql": "a"}
    status, _, answer = gateway.request(
        "POST", "/v1/embeddings", {"model": "base:v1", "input": "hello"}
    )
    assert status == 501, answer
    assert "adapters" in json.loads(answer)["error"]["message"]


def test_one_that_cannot_be_used_is_refused_and_changes_nothing(start_gateway, tmp_path):
    gateway = start_gateway(routing())
    broken = tmp_path / "broken"
    shutil.copytree(A, broken)
    weights = (broken / "adapters.safetensors").read_bytes()
    (broken / "adapters.safetensors").write_bytes(weights[:-100])
    status, told = admin(gateway, "POST", body={"name": "v1", "path": str(broken)})
    assert status == 400
    assert "100 bytes are missing" in told["error"]["message"]
    assert voice(gateway, "sql") == "a"
    assert admin(gateway, "DELETE", "/v2")[0] == 200
    assert ask(gateway, "base:v2")[0] == 404
    assert voice(gateway, "base:v1") == "a"


def test_an_engine_that_is_started_again_gets_its_adapters_back(start_gateway, tmp_path):
    folder = shutil.copytree(B, tmp_path / "b")
    text = routing("v2", {"v1": str(A), "v2": str(folder)}, isolation="process")
    gateway = start_gateway(text, env={"XDG_STATE_HOME": str(tmp_path)})
    assert voice(gateway, "sql") == "b"
    # What it was started with is gone by the time that it is started again.
    gateway.rewrite(routing("v1", {"v1": str(A)}, isolation="process"))
    gateway.wait_log("is in force")
    shutil.rmtree(folder)
    before = child_of(gateway)
    os.kill(before, signal.SIGKILL)
    gateway.child.wait_for(
        lambda: child_of(gateway) not in (None, before), 60, "it is not started again"
    )
    gateway.wait_model("sql", timeout=60)
    assert voice(gateway, "sql") == "a"
