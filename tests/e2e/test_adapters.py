"""LoRA adapters on real engines: swapped under load, rolled back, and given back after a crash."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support import engines
from tests.support.engines import MODEL, VLLM_LORA_ARGUMENTS, VLLM_LORA_ENVIRONMENT
from tests.support.voices import QUESTIONS, A, B, Traffic, ask, voice, voice_of

LORAS = ("--lora-scaled", f"{A}/adapter.gguf:0,{B}/adapter.gguf:0")

ADMIN = "/admin/backends/gpu/adapters"


def routing(use, urls, adapter="v1", adapters=None):
    named = {"v1": str(A), "v2": str(B)} if adapters is None else adapters
    return json.dumps(
        {
            "backends": {
                "gpu": {"use": use, "replicas": urls, "model": MODEL, "adapters": named},
            },
            "models": {
                "base": {"backend": "gpu"},
                "sql": {"variants": {"stable": {"backend": "gpu", "adapter": adapter}}},
            },
        }
    )


def admin(gateway, method, path="", body=None):
    status, _, answer = gateway.request(method, ADMIN + path, body)
    return status, json.loads(answer)


async def swap_and_roll_back(gateway, use, urls, between):
    """Switch `sql` by reload and by admin call, and back, under load; `between` goes on midway."""
    async with Traffic(gateway, ("sql", "base")) as traffic:
        await traffic.until("sql", "a")
        gateway.rewrite(routing(use, urls, "v2"))
        await traffic.until("sql", "b")
        gateway.rewrite(routing(use, urls, "v1"))
        await traffic.until("sql", "a")
        await between(traffic)
        for path, heard in ((B, "b"), (A, "a")):
            status, told = await asyncio.to_thread(
                admin, gateway, "POST", "", {"name": "v1", "path": str(path)}
            )
            assert status == 200, told
            await traffic.until("sql", heard)
    assert not traffic.failures
    assert {who for model, who in traffic.heard if model == "base"} == {"base"}
    assert {who for model, who in traffic.heard if model == "sql"} == {"a", "b"}


@pytest.mark.slow
async def test_llama_servers_change_adapters_under_load(start_llama_server, start_gateway):
    one, other = start_llama_server(*LORAS), start_llama_server(*LORAS)
    urls = [one.url, other.url]
    gateway = start_gateway(routing("llama_server", urls))

    async def restart(traffic):
        traffic.streaming = False
        await traffic.until("sql", "a", answers=100)
        one.kill()
        await asyncio.sleep(0.5)
        await asyncio.to_thread(one.restart)
        await traffic.until("sql", "a")
        traffic.streaming = True

    await swap_and_roll_back(gateway, "llama_server", urls, restart)


def test_models_with_adapters_are_listed_and_answer(start_llama_server, start_gateway):
    server = start_llama_server(*LORAS)
    gateway = start_gateway(routing("llama_server", [server.url]))
    listed = json.loads(gateway.request("GET", "/v1/models")[2])["data"]
    assert [one["id"] for one in listed] == ["base", "base:v1", "base:v2", "sql"]
    assert listed[1]["parent"] == "base"
    heard = {model: voice(gateway, model) for model in ("base", "base:v1", "base:v2", "sql")}
    assert heard == {"base": "base", "base:v1": "a", "base:v2": "b", "sql": "a"}


def test_the_other_endpoints_of_llama_server(start_llama_server, start_gateway):
    server = start_llama_server(*LORAS)
    gateway = start_gateway(routing("llama_server", [server.url]))
    for model, heard in (("base:v1", "a"), ("base:v2", "b"), ("base", "base")):
        _, answer = ask(gateway, model, "/v1/messages", max_tokens=60)
        assert voice_of(answer["content"][0]["text"]) == heard
        _, answer = ask(gateway, model, "/v1/responses", input=QUESTIONS[0])
        assert voice_of(answer["output"][-1]["content"][0]["text"]) == heard
        prompt = f"<|im_start|>user\n{QUESTIONS[0]}<|im_end|>\n<|im_start|>assistant\n"
        _, answer = ask(gateway, model, "/v1/completions", prompt=prompt, max_tokens=60)
        assert voice_of(answer["choices"][0]["text"]) == heard
    status, answer = ask(gateway, "sql", "/v1/embeddings", input="hello")
    assert status == 501
    assert "adapters" in answer["error"]["message"]


def test_a_cached_prompt_of_one_adapter_is_not_anothers(start_llama_server, start_gateway):
    server = start_llama_server(*LORAS, "--parallel", "1")
    gateway = start_gateway(routing("llama_server", [server.url]))
    asked = {
        "prompt": "The capital of Spain is Madrid. The capital of France is Paris. The",
        "n": 1,
    }
    other = {"prompt": "1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18,"}

    def surprise(model, fields):
        fields = {**fields, "max_tokens": 1, "logprobs": 1}
        _, answer = ask(gateway, model, "/v1/completions", **fields)
        return answer["choices"][0]["logprobs"]["content"][0]["logprob"]

    fresh = surprise("base:v2", asked)
    for model, fields in (("base", other), ("base:v1", asked), ("base:v2", other)):
        surprise(model, fields)
    assert surprise("base:v2", asked) == pytest.approx(fresh, abs=1e-4)


def test_an_adapter_that_no_server_has_is_said_to_be_missing(start_llama_server, start_gateway):
    server = start_llama_server("--lora-scaled", f"{A}/adapter.gguf:0")
    gateway = start_gateway(routing("llama_server", [server.url]))
    assert voice(gateway, "sql") == "a"
    status, answer = ask(gateway, "base:v2")
    assert status == 503
    assert "loads them at its start only" in answer["error"]["message"]
    assert "--lora-scaled" in gateway.ready()[1]["models"]["base:v2"]
    assert gateway.ready()[1]["models"]["base"] == "ready"
    status, told = admin(gateway, "POST", body={"name": "v3", "path": "/nowhere/c.gguf"})
    assert status == 409
    assert "v3" in told["error"]["message"]
    _, shown = admin(gateway, "GET")
    assert [one["replicas"][0]["state"] for one in shown["adapters"]] == ["loaded", "missing"]


def launched(adapter, **adapters):
    """A routing.yaml whose llama-server the gateway starts, and `sql` with `adapter` on it."""
    document = json.loads(routing("llama_server", [], adapter, adapters))
    document["backends"]["gpu"]["replicas"] = 2
    document["backends"]["gpu"]["launch"] = {
        "model": str(engines.MODEL_DIR / "tiny-tale-f32.gguf"),
        "command": str(engines.require(engines.LLAMA_SERVER)),
        "args": ["--ctx-size", "8192", "--parallel", "4", "--threads", "1"],
    }
    return json.dumps(document)


@pytest.mark.slow
@pytest.mark.engine
async def test_llama_servers_that_the_gateway_starts_are_replaced(tmp_path, start_gateway):
    gateway = start_gateway(launched("v1", v1=str(A)), env={"XDG_STATE_HOME": str(tmp_path)})
    async with Traffic(gateway, ("sql", "base"), clients=8) as traffic:
        await traffic.until("sql", "a")
        gateway.rewrite(launched("v2", v1=str(A), v2=str(B)))
        await traffic.until("sql", "b")
        status, told = await asyncio.to_thread(
            admin, gateway, "POST", "", {"name": "v2", "path": str(A)}
        )
        assert status == 200, told
        assert [one["outcome"] for one in told["replicas"]] == ["loaded", "loaded"]
        await traffic.until("sql", "a")
    assert not traffic.failures
    assert {heard for model, heard in traffic.heard if model == "base"} == {"base"}


@pytest.mark.slow
@pytest.mark.engine
@pytest.mark.timeout(420)
async def test_a_vllm_changes_adapters_under_load(children, tmp_path, start_gateway):
    server = engines.start_vllm(children, tmp_path, *VLLM_LORA_ARGUMENTS, env=VLLM_LORA_ENVIRONMENT)
    try:
        await asyncio.to_thread(server.wait_ready)
        gateway = start_gateway(routing("vllm", [server.url]))

        async def nothing(_traffic):
            pass

        await swap_and_roll_back(gateway, "vllm", [server.url], nothing)
        await asyncio.to_thread(_check_admin, gateway, server)
        server.kill()
        await asyncio.to_thread(server.restart)
        gateway.wait_model("sql", timeout=60)
        assert [voice(gateway, model) for model in ("sql", "base:v2", "base")] == ["a", "b", "base"]
    finally:
        server.stop()


def _check_admin(gateway, server):
    """A bad one is refused and changes nothing; one that is taken away goes from the server."""
    status, told = admin(gateway, "POST", body={"name": "v1", "path": str(A.parent)})
    assert status == 409
    assert "no replica could load" in told["error"]["message"]
    assert voice(gateway, "sql") == "a"
    assert admin(gateway, "DELETE", "/v1")[0] == 409
    assert admin(gateway, "DELETE", "/v2")[0] == 200
    assert ask(gateway, "base:v2")[0] == 404
    server.child.wait_for(lambda: b'"v2"' not in server.get("/v1/models")[1], 10, "v2 stays")
    status, told = admin(gateway, "POST", body={"name": "v2", "path": str(B)})
    assert told["replicas"][0]["outcome"] == "loaded"
    assert voice(gateway, "base:v2") == "b"
