"""Adapters of engines that the gateway starts, changed while these sleep, start and are down."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

import pytest

from tests.support import scripted_engine
from tests.support.inprocess import serving
from tests.support.until import until

pytestmark = pytest.mark.slow

ADMIN = "/admin/backends/e/adapters"
BASE = "".join(scripted_engine.CHUNKS)


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """A routing.yaml with an engine that is started like vLLM, with these adapters."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    command = tmp_path / "engine"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {scripted_engine.__file__} "$@"\n')
    command.chmod(0o755)
    (tmp_path / "m").mkdir()
    for name in ("a", "b"):
        (tmp_path / name).mkdir()

    def document(*adapters, **launch):
        launch = {"model": "./m", "command": str(command), "stop_timeout": "1s", **launch}
        backend = {"use": "vllm", "replicas": 1, "launch": launch}
        backend["adapters"] = {name: f"./{name}" for name in adapters}
        return {
            "backends": {"e": backend},
            "models": {"m": {"backend": "e", "retry": {"backoff": "1ms"}}},
            "telemetry": {"access_log": False},
        }

    return document


def supervisor(gateway):
    (replica,) = gateway.gateway._state.snapshot.replicas
    return replica.backend._supervisors["0"]


async def add(gateway, name):
    answer = await gateway.client.post(ADMIN, json={"name": name, "path": f"./{name}"})
    assert answer.status_code == 200, answer.text
    return [one["outcome"] for one in answer.json()["replicas"]]


async def said(gateway, model):
    answer = await gateway.chat(model=model, stream=True)
    assert answer.status_code == 200, answer.text
    events = [line[6:] for line in answer.text.splitlines() if line.startswith("data: {")]
    deltas = [json.loads(event)["choices"][0]["delta"] for event in events]
    return "".join(delta.get("content") or "" for delta in deltas)


async def has(gateway):
    """The names of what the engine says that it has."""
    life = supervisor(gateway).life
    _, body = await life.adapter.get(life.address, "/v1/models")
    return {card["id"] for card in json.loads(body)["data"]}


async def test_one_that_sleeps_is_woken_for_an_adapter_that_it_was_not_started_with(
    tmp_path, launched, caplog
):
    async with serving(tmp_path, launched("a", preload=False)) as gateway:
        await asyncio.sleep(0.3)  # those who look after adapters have had their turn
        assert await add(gateway, "b") == ["waiting"]
        assert (await gateway.client.get("/ready")).json()["models"]["m:b"] == "ready"
        assert await said(gateway, "m:b") == str(tmp_path / "b")
        assert await said(gateway, "m:a") == str(tmp_path / "a")
        assert await said(gateway, "m") == BASE
    assert ": not loaded: " not in caplog.text


async def test_one_that_starts_has_what_is_wanted_by_then(tmp_path, launched):
    document = launched("a", preload=False, env={"LOADING": "0.5"})
    async with serving(tmp_path, document) as gateway:
        early = asyncio.create_task(said(gateway, "m:a"))
        await until(lambda: supervisor(gateway).phase == "starting")
        assert await add(gateway, "b") == ["waiting"]
        assert (await gateway.client.delete(f"{ADMIN}/a")).status_code == 200
        assert await said(gateway, "m:b") == str(tmp_path / "b")
        assert await early == str(tmp_path / "a"), "it was asked for when it was there"
        async with asyncio.timeout(8):
            while await has(gateway) != {"b"}:
                await asyncio.sleep(0.02)


async def test_one_that_died_comes_back_with_what_is_wanted_now(tmp_path, launched):
    async with serving(tmp_path, launched("a")) as gateway:
        assert await add(gateway, "b") == ["loaded"]
        assert (await gateway.client.delete(f"{ADMIN}/a")).status_code == 200
        os.kill(supervisor(gateway).life.process.pid, signal.SIGKILL)
        await until(lambda: supervisor(gateway).phase == "backing_off")
        (replica,) = gateway.gateway._state.snapshot.replicas
        (b,) = gateway.gateway._state.snapshot.config.backends["e"].loras
        assert replica.serves(b), "who asks for it waits, as for the model itself"
        assert await said(gateway, "m:b") == str(tmp_path / "b")
        assert await has(gateway) == {"b"}
