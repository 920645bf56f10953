"""Engines that the gateway starts, scripted: what clients get while they load, die and sleep."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.support import scripted_engine
from tests.support.inprocess import Running, ask, post, serving
from tests.support.until import until

STORY = "".join(scripted_engine.CHUNKS)


@pytest.fixture
def launched(tmp_path, monkeypatch):
    """A routing.yaml with one scripted engine behind the model `tale`."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    command = tmp_path / "engine"
    script = scripted_engine.__file__
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -S -E {script} "$@"\n')
    command.chmod(0o755)
    (tmp_path / "m.gguf").write_bytes(b"GGUF")

    def document(
        env: dict[str, str] | None = None, model: dict[str, Any] | None = None, **launch: Any
    ) -> Any:
        return {
            "backends": {
                "e": {
                    "use": "llama_server",
                    "replicas": launch.pop("replicas", 1),
                    "launch": {
                        "model": "m.gguf",
                        "command": str(command),
                        "env": env or {},
                        "stop_timeout": "1s",
                        **launch,
                    },
                }
            },
            "models": {
                "tale": {"backend": "e", "retry": {"backoff": "1ms"}, **(model or {})},
            },
            "telemetry": {"access_log": False},
        }

    return document


def replicas(gateway: Running) -> Any:
    return gateway.gateway._state.snapshot.replicas


def supervisor(gateway: Running, number: int = 0) -> Any:
    return replicas(gateway)[0].backend._supervisors[str(number)]


def text_of(answer: Any) -> str:
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


@pytest.mark.slow
async def test_loading_is_no_time_to_the_first_token(tmp_path, launched):
    document = launched({"LOADING": "0.6"}, {"timeouts": {"first_token": "300ms"}}, preload=False)
    async with serving(tmp_path, document) as gateway:
        answers = await asyncio.gather(*(gateway.chat(stream=True) for _ in range(5)))
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.text.endswith("data: [DONE]\n\n") for answer in answers)


@pytest.mark.slow
async def test_but_it_is_part_of_the_whole_time(tmp_path, launched):
    document = launched({"LOADING": "600"}, {"timeouts": {"total": "300ms"}}, preload=False)
    async with serving(tmp_path, document) as gateway:
        answer = await gateway.chat()
        assert not supervisor(gateway).busy
    assert answer.status_code == 504
    assert answer.headers["x-gateway-attempts"] == "0"


async def test_a_client_that_leaves_waits_no_more(tmp_path, launched):
    async with serving(tmp_path, launched({"LOADING": "600"}, preload=False)) as gateway:
        client = await gateway.connect()
        await client.write(post(json.dumps(ask()).encode()))
        await until(lambda: supervisor(gateway).busy)
        client.reset()
        await until(lambda: not supervisor(gateway).busy)


@pytest.mark.slow
async def test_a_death_is_known_before_anybody_looks(tmp_path, launched):
    async with serving(tmp_path, launched(replicas=2)) as gateway:
        first, second = replicas(gateway)
        assert first.readiness.ready
        assert (first.id, second.id) == ("e@0", "e@1")
        pid = supervisor(gateway).life.process.pid
        changed = supervisor(gateway)._changed
        os.kill(pid, signal.SIGKILL)
        async with asyncio.timeout(2):
            await changed.wait()
        assert not first.readiness.ready
        assert "was ended by SIGKILL" in first.readiness.reason
        for _ in range(4):
            answer = await gateway.chat()
            assert text_of(answer) == STORY
        await until(lambda: first.readiness.ready)


@pytest.mark.slow
async def test_a_request_that_kills_engines_is_given_up_and_the_next_one_is_answered(
    tmp_path, launched
):
    async with serving(tmp_path, launched(replicas=2)) as gateway:
        answer = await gateway.chat(user="die")
        assert answer.status_code in (502, 503)
        assert text_of(await gateway.chat()) == STORY


@pytest.mark.slow
async def test_while_it_cannot_start_the_fallback_answers(tmp_path, launched):
    document = launched(preload=False)
    bad = json.loads(json.dumps(document["backends"]["e"]))
    bad["launch"]["env"] = {"DIES": "yes"}
    document["backends"]["bad"] = bad
    document["models"]["other"] = {"backend": "bad", "fallback": ["tale"]}
    async with serving(tmp_path, document) as gateway:
        answer = await gateway.chat(model="other")
        assert text_of(answer) == STORY
        assert answer.json()["model"] == "tale"
        ready = (await gateway.client.get("/ready")).json()["models"]
        assert ready["other"].startswith("ready through tale (bad@0: crash_loop: ended with exit")
        assert "there is no such model" in ready["other"]


@pytest.mark.slow
async def test_an_engine_that_hangs_on_a_request_is_told_from_one_that_hangs(tmp_path, launched):
    document = launched(model={"timeouts": {"first_token": "5s"}}, stall_timeout="500ms")
    async with serving(tmp_path, document) as gateway:
        pid = supervisor(gateway).life.process.pid
        stuck = asyncio.create_task(gateway.chat(user="hang", stream=True))
        await until(lambda: supervisor(gateway).busy)
        await asyncio.sleep(1.5)  # it still makes tokens for others, so it is not killed
        assert supervisor(gateway).life.process.pid == pid
        os.kill(pid, signal.SIGSTOP)
        await until(lambda: supervisor(gateway).life is None)
        assert "hangs" in replicas(gateway)[0].readiness.reason
        stuck.cancel()
        await asyncio.gather(stuck, return_exceptions=True)
        assert text_of(await gateway.chat()) == STORY


@pytest.mark.slow
async def test_an_engine_inherits_no_secret_of_the_gateways(tmp_path, launched, monkeypatch):
    monkeypatch.setenv("APP_KEY", "a-key-of-a-client")
    monkeypatch.setenv("HARMLESS", "yes")
    document = {**launched(), "keys": {"app": {"value": "a-key-of-a-client"}}}
    async with serving(tmp_path, document) as gateway:
        pid = supervisor(gateway).life.process.pid
        variables = Path(f"/proc/{pid}/environ").read_bytes()
        assert b"HARMLESS=yes" in variables
        assert b"a-key-of-a-client" not in variables
