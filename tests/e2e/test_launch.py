"""Engines that the gateway starts itself: real ones, killed, held still and reloaded."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
from collections import Counter

import openai
import pytest

from tests.support import engines
from tests.support.children import wait_until
from tests.support.inprocess import serving
from tests.support.launched import (
    ANSWER,
    ARGS,
    MODEL,
    QUESTION,
    ask,
    below,
    engine_pids,
    gone,
    launched,
    one,
    read_some,
    status,
    text_of,
    wait_status,
)

pytestmark = [pytest.mark.engine, pytest.mark.slow]


@pytest.mark.parametrize("sig", [signal.SIGTERM, signal.SIGINT])
def test_two_replicas_by_number_and_nothing_is_left_after_a_signal(start, tmp_path, sig):
    secret = "hunter2-hunter2"
    gateway = start(
        one("env: {PASSWORD: '${PASSWORD}'}", replicas=2) + "server: {drain: {grace: 0s}}\n",
        PASSWORD=secret,
    )
    pids = [process.pid for process in below(gateway.child.pid)]
    assert len(engine_pids(gateway)) == 2
    with gateway.openai() as client:
        replies = [
            client.chat.completions.with_raw_response.create(
                model="tale", messages=QUESTION, temperature=0
            )
            for _ in range(8)
        ]
    assert {text_of(reply.parse()) for reply in replies} == {ANSWER}
    assert {reply.headers["x-gateway-replica"] for reply in replies} <= {"local@0", "local@1"}
    assert gateway.metric("gateway_replica_ready") == 2
    gateway.child.send(sig)
    assert gateway.child.wait(20) == 0
    assert gone(pids)
    log = tmp_path / "llm-gateway" / "logs" / "local@0.log"
    assert "model loaded" in log.read_text()
    assert "local@0: " in gateway.child.log()
    assert secret not in gateway.child.log() + log.read_text()


@pytest.mark.parametrize("replicas", [1, 2])
async def test_kill_9_of_an_engine_under_load_loses_nothing(start, replicas):
    gateway = start(one(replicas=replicas))
    victim = engine_pids(gateway)[0]
    outcomes: Counter[str] = Counter()
    numbers = iter(range(160))

    async def client(sdk: openai.AsyncOpenAI) -> None:
        for number in numbers:
            if number == 60:
                os.kill(victim, signal.SIGKILL)
            try:
                answer = await sdk.chat.completions.create(
                    model="tale", messages=QUESTION, temperature=0
                )
                outcomes[text_of(answer)] += 1
            except openai.OpenAIError as error:
                outcomes[repr(error)] += 1

    async with gateway.async_openai() as sdk:
        await asyncio.gather(*(client(sdk) for _ in range(16)))
    assert outcomes == {ANSWER: 160}
    wait_status(gateway, "local@0", "ready")
    assert gateway.metric("gateway_engine_restarts_total", gateway_replica="local@0") == 1
    assert victim not in engine_pids(gateway)
    assert len(engine_pids(gateway)) == replicas
    assert gateway.outstanding() == 0


def test_kill_9_of_the_gateway_leaves_no_engine(start):
    gateway = start(one(replicas=2))
    pids = [process.pid for process in below(gateway.child.pid)]
    assert len(pids) == 4
    os.kill(gateway.child.pid, signal.SIGKILL)
    wait_until(lambda: gone(pids), 10, "an engine has outlived the gateway")


def test_a_model_that_is_none_is_an_error_at_the_start_that_quotes_the_engine(start, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 64)
    gateway = start(one(model=broken), wait=False)
    assert gateway.child.wait(60) == 1
    said = gateway.child.log()
    assert "backend 'local'" in said
    assert "crash_loop" in said
    assert "ended with exit code 1" in said
    assert not below(gateway.child.pid)


def test_a_crash_loop_is_seen_and_takes_no_other_model_down(start, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 64)
    gateway = start(
        "backends:\n"
        f"  good: {{use: llama_server, launch: {launched()}}}\n"
        f"  bad: {{use: llama_server, launch: {launched('preload: false', model=broken)}}}\n"
        "models: {good: {backend: good}, bad: {backend: bad}}\n"
    )
    assert status(gateway, "bad@0") == "asleep"
    with pytest.raises(openai.APIStatusError, match="crash_loop") as caught:
        ask(gateway, "bad")
    assert caught.value.status_code == 503
    # The next try is half a minute to a minute away.
    assert 20 <= int(caught.value.response.headers["retry-after"]) <= 60
    assert status(gateway, "bad@0") == "crash_loop"
    ready = gateway.ready()[1]
    assert ready["ready"]
    assert ready["models"]["bad"].startswith("bad@0: crash_loop: ended with exit code 1")
    assert text_of(ask(gateway, "good")) == ANSWER


def test_a_command_that_is_not_there(start):
    text = (
        "backends: {local: {use: vllm, launch: {model: org/name, command: no-such-vllm}}}\n"
        "models: {tale: {backend: local}}\n"
    )
    gateway = start(text, wait=False)
    assert gateway.child.wait(60) == 1
    assert "no-such-vllm is not on PATH: install it" in gateway.child.log()


def test_an_engine_that_hangs_is_killed_and_its_requests_go_elsewhere(start):
    gateway = start(one("stall_timeout: 1s", replicas=2))
    victim = engine_pids(gateway)[0]
    answers: list[str] = []
    os.kill(victim, signal.SIGSTOP)
    clients = [
        threading.Thread(target=lambda: answers.append(text_of(ask(gateway)))) for _ in range(8)
    ]
    for client in clients:
        client.start()
    for client in clients:
        client.join(30)
    assert answers == [ANSWER] * 8
    wait_until(lambda: gone([victim]), 20, "the engine that hangs was not killed")
    gateway.wait_log("local@0: hangs: made no token within 1 s")
    wait_status(gateway, "local@0", "ready")


async def test_one_that_hangs_while_nobody_asks_is_found_too_and_one_that_rests_is_left_alone(
    tmp_path, monkeypatch, caplog
):
    # Half a second stands for the minute: this gateway runs in the test's own process.
    monkeypatch.setattr("backends.launch.activity.PROBE_WHEN_IDLE", 0.5)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    launch = {
        "model": str(MODEL),
        "command": str(engines.require(engines.LLAMA_SERVER)),
        "args": ["--ctx-size", "8192", "--parallel", "2", "--threads", "1"],
        "stall_timeout": "1s",
    }
    document = {
        "backends": {"local": {"use": "llama_server", "replicas": 2, "launch": launch}},
        "models": {"tale": {"backend": "local"}},
        "telemetry": {"access_log": False},
    }
    async with serving(tmp_path, document) as gateway:
        first, second = gateway.gateway._state.snapshot.replicas
        pids = [one.backend._supervisors[one.address].life.process.pid for one in (first, second)]
        os.kill(pids[0], signal.SIGSTOP)
        async with asyncio.timeout(30):
            while not (first.backend.supervised("0").restarts and first.readiness.ready):
                await asyncio.sleep(0.02)
        assert "local@0: hangs: made no token within 1 s" in caplog.text
        assert "local@1: hangs" not in caplog.text
        assert first.backend.supervised("0").restarts == 1
        assert second.backend.supervised("1").restarts == 0
        assert second.backend._supervisors["1"].life.process.pid == pids[1]
        answer = await gateway.chat(messages=QUESTION, temperature=0)
    assert answer.json()["choices"][0]["message"]["content"] == ANSWER


@pytest.mark.timeout(300)
def test_vllm_is_started_killed_and_gone_with_the_gateway(start):
    command = engines.require(engines.VLLM)
    args = ", ".join(f"'{one}'" for one in engines.VLLM_ARGUMENTS)
    env = {**engines.VLLM_ENVIRONMENT, "VLLM_ENABLE_V1_MULTIPROCESSING": "1"}
    variables = ", ".join(f"{name}: '{value}'" for name, value in env.items())
    launch = (
        f"{{model: {engines.MODEL_DIR}, command: {command}, args: [{args}], "
        f"env: {{{variables}}}, start_timeout: 4m}}"
    )
    gateway = start(
        f"backends: {{gpu: {{use: vllm, launch: {launch}}}}}\nmodels: {{tale: {{backend: gpu}}}}\n",
        wait=False,
    )
    gateway.child.wait_for(lambda: "ready: base_url" in gateway.child.log(), 240, "no vLLM")
    gateway.wait_ready()
    assert text_of(ask(gateway)) == ANSWER
    pids = [process.pid for process in below(gateway.child.pid)]
    assert len(pids) > 3, "its engine core runs in a process of its own"
    os.kill(gateway.child.pid, signal.SIGKILL)
    wait_until(lambda: gone(pids), 10, "a process of vLLM has outlived the gateway")


def test_a_reload_that_changes_the_arguments_lets_the_old_engine_finish(start, stream_of):
    gateway = start(one())
    (old,) = engine_pids(gateway)
    stream = stream_of(gateway)
    gateway.rewrite(one(args=ARGS.replace("8192", "4096")))
    gateway.wait_log("is in force", 20)
    assert text_of(ask(gateway)) == ANSWER
    both = engine_pids(gateway)
    assert len(both) == 2
    assert old in both
    read_some(stream, 50)
    stream.close()
    wait_until(lambda: gone([old]), 10, "the old engine is still there")
    assert len(engine_pids(gateway)) == 1
    assert text_of(ask(gateway)) == ANSWER
    assert gateway.metric("gateway_engine_state", gateway_state="ready") == 1


def test_a_reload_that_changes_nothing_of_it_keeps_the_engine(start):
    gateway = start(one())
    before = engine_pids(gateway)
    gateway.rewrite(one() + "x-note: nothing of importance\n")
    gateway.wait_log("says nothing new", 20)
    gateway.rewrite(one().replace("backend: local", "backend: local, aliases: [other]"))
    gateway.wait_log("is in force", 20)
    assert text_of(ask(gateway, "other")) == ANSWER
    assert engine_pids(gateway) == before


def test_a_reload_to_an_engine_that_does_not_start_changes_nothing(start, tmp_path):
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + b"\xff" * 64)
    gateway = start(one())
    before = engine_pids(gateway)
    gateway.rewrite(one(model=broken))
    gateway.wait_log("is not taken over", 30)
    assert text_of(ask(gateway)) == ANSWER
    wait_until(lambda: engine_pids(gateway) == before, 10, "the engine is another one")


def test_sigterm_with_a_stream_running_lets_it_end(start, stream_of):
    gateway = start(one() + "server: {drain: {grace: 0, timeout: 30s}}\n")
    pids = [process.pid for process in below(gateway.child.pid)]
    stream = stream_of(gateway, max_tokens=3000)
    gateway.terminate()
    rest = [chunk.choices[0].finish_reason for chunk in stream]
    assert rest[-1] == "length"
    assert gateway.child.wait(20) == 0
    assert gone(pids)
