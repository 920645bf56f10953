"""Engines that definitely cannot are passed over; all others have the last word."""

from __future__ import annotations

from contextlib import AsyncExitStack, asynccontextmanager

from tests.support.inprocess import serving
from tests.support.upstream import CHAT, failing, reply, scripted

TOOLS = [{"type": "function", "function": {"name": "f", "parameters": {}}}]
EMBEDDED = {"object": "list", "data": [], "model": "m"}


@asynccontextmanager
async def house(tmp_path, models, *, plain=CHAT, clever=CHAT, without=("tools",), **sections):
    """A plain engine that lacks something and a clever one; yields a gateway and both engines."""
    async with AsyncExitStack() as stack:
        one = await stack.enter_async_context(scripted(plain))
        other = await stack.enter_async_context(scripted(clever))
        backends = {
            "plain": {"use": "openai", "replicas": [one.url], "without": list(without)},
            "clever": {"use": "openai", "replicas": [other.url]},
        }
        document = {
            "backends": backends,
            "models": models,
            "telemetry": {"access_log": False},
            **sections,
        }
        yield await stack.enter_async_context(serving(tmp_path, document)), one, other


def error(answer):
    return answer.json()["error"]


async def test_nobody_is_asked_who_cannot_and_the_client_is_told_what_can(tmp_path):
    models = {
        "tale": {"backend": "plain"},
        "able": {"backend": "clever"},
        "hidden": {"backend": "clever", "public": False},
        "any-*": {"backend": "clever"},
    }
    async with house(tmp_path, models) as (gateway, plain, clever):
        answer = await gateway.chat(tools=TOOLS)
        assert answer.status_code == 400
        said = error(answer)
        assert (said["code"], said["param"]) == ("unsupported", "tools")
        assert said["message"].endswith("cannot do tools; models that can: able")
        assert plain.seen == clever.seen == []
        assert (await gateway.chat()).status_code == 200


async def test_where_nobody_can_that_is_said(tmp_path):
    async with house(tmp_path, {"tale": {"backend": "plain"}}) as (gateway, _, _):
        assert error(await gateway.chat(tools=TOOLS))["message"].endswith("no model here can")


async def test_a_fallback_that_can_answers(tmp_path):
    models = {"tale": {"backend": "plain", "fallback": ["able"]}, "able": {"backend": "clever"}}
    async with house(tmp_path, models) as (gateway, plain, clever):
        assert (await gateway.chat(tools=TOOLS)).status_code == 200
        assert (len(plain.seen), len(clever.seen)) == (0, 1)


async def test_a_fallback_that_cannot_is_passed_over_and_does_not_hide_what_went_wrong(tmp_path):
    models = {
        "tale": {"backend": "clever", "fallback": ["other"], "retry": {"attempts": 1}},
        "other": {"backend": "plain"},
    }
    async with house(tmp_path, models, clever=failing(500)) as (gateway, plain, clever):
        answer = await gateway.chat(tools=TOOLS)
        assert answer.status_code == 502
        assert (len(plain.seen), len(clever.seen)) == (0, 1)


async def test_another_variant_takes_what_the_chosen_one_cannot(tmp_path):
    variants = {"canary": {"backend": "plain", "weight": 1e6}, "stable": {"backend": "clever"}}
    models = {"tale": {"variants": variants}}
    async with house(tmp_path, models) as (gateway, _, _):
        answer = await gateway.chat(tools=TOOLS)
        assert (answer.status_code, answer.headers["x-gateway-variant"]) == (200, "stable")
        assert (await gateway.chat()).headers["x-gateway-variant"] == "canary"


async def test_a_variant_for_rules_only_takes_nothing_over(tmp_path):
    variants = {"main": {"backend": "plain"}, "tests": {"backend": "clever", "weight": 0}}
    async with house(tmp_path, {"tale": {"variants": variants}}) as (gateway, _, clever):
        assert (await gateway.chat(tools=TOOLS)).status_code == 400
        assert clever.seen == []


async def test_an_endpoint_stays_a_501(tmp_path):
    models = {"tale": {"backend": "plain"}, "able": {"backend": "clever"}}
    without = ["embeddings"]
    async with house(tmp_path, models, clever=reply(EMBEDDED), without=without) as opened:
        gateway, plain, _ = opened
        body = {"model": "tale", "input": "Hello"}
        answer = await gateway.client.post("/v1/embeddings", json=body)
        assert answer.status_code == 501
        assert error(answer)["code"] == "endpoint_not_supported"
        assert "models that can: able" in error(answer)["message"]
        assert plain.seen == []
        answer = await gateway.client.post("/v1/embeddings", json={**body, "model": "able"})
        assert answer.status_code == 200


async def test_a_key_is_told_of_no_model_that_it_may_not_use(tmp_path):
    models = {"tale": {"backend": "plain"}, "able": {"backend": "clever"}}
    keys = {"alice": {"value": "a-secret-value", "models": ["tale"]}}
    async with house(tmp_path, models, keys=keys) as (gateway, _, _):
        gateway.client.headers["authorization"] = "Bearer a-secret-value"
        answer = await gateway.chat(tools=TOOLS)
        assert "able" not in answer.text
        assert error(answer)["message"].endswith("no model here can")


async def test_what_may_be_possible_is_asked_for(tmp_path):
    """A claim is all that counts: the engine says no itself."""
    said = failing(400, "no tool parser")
    models = {"tale": {"backend": "clever"}}
    async with house(tmp_path, models, clever=said) as (gateway, _, clever):
        answer = await gateway.chat(tools=TOOLS)
        assert error(answer)["message"] == "no tool parser"
        assert len(clever.seen) == 1
