from __future__ import annotations

import logging

import pytest

from gateway.api.auth import Authenticator
from gateway.config.key_hash import KeyHash
from gateway.config.structs import Key
from gateway.errors import Unauthenticated
from gateway.wire.fields import Fields
from tests.support.inprocess import ask, routing, serving
from tests.support.upstream import CHAT, failing, scripted

ALICE, BOB = "sk-alice-0123456789", "sk-bob-9876543210"
ENV = {"ALICE": ALICE, "BOB": BOB}


@pytest.fixture
async def engine():
    async with scripted(CHAT) as upstream:
        yield upstream


@pytest.fixture
async def gateway(tmp_path, engine):
    document = routing(
        engine,
        keys={"alice": {"value": "${ALICE}"}, "bob": {"value": "${BOB}", "models": ["other*"]}},
        telemetry={"access_log": True},
    )
    document["models"]["other-model"] = {"backend": "engine"}
    async with serving(tmp_path, document, ENV) as running:
        yield running


async def chat(gateway, model="tale", **headers):
    return await gateway.client.post("/v1/chat/completions", json=ask(model=model), headers=headers)


class TestInference:
    @pytest.mark.parametrize(
        "headers",
        [
            {"authorization": f"Bearer {ALICE}"},
            {"authorization": f"bearer  {ALICE}"},
            {"x-api-key": ALICE},
            {"x-api-key": ALICE, "authorization": "Basic eDp5"},
        ],
    )
    async def test_a_key_lets_in(self, gateway, headers):
        assert (await chat(gateway, **headers)).status_code == 200

    @pytest.mark.parametrize(
        ("headers", "code"),
        [
            ({}, "missing_api_key"),
            ({"authorization": ""}, "missing_api_key"),
            ({"authorization": "Bearer"}, "missing_api_key"),
            ({"authorization": f"Basic {ALICE}"}, "missing_api_key"),
            ({"authorization": ALICE}, "missing_api_key"),
            ({"authorization": "Bearer wrong"}, "invalid_api_key"),
            ({"authorization": f"Bearer {ALICE}x"}, "invalid_api_key"),
            ({"authorization": f"Bearer {ALICE[:-1]}"}, "invalid_api_key"),
            ({"authorization": f"Bearer {ALICE.upper()}"}, "invalid_api_key"),
            ({"x-api-key": ""}, "invalid_api_key"),
            ({"x-api-key": "ä"}, "invalid_api_key"),
        ],
    )
    async def test_nothing_else_does(self, gateway, engine, headers, code):
        headers = {name: value.encode("utf-8") for name, value in headers.items()}
        answer = await chat(gateway, **headers)
        assert (answer.status_code, answer.json()["error"]["code"]) == (401, code)
        assert "wrong" not in answer.text
        assert engine.seen == []

    async def test_a_wrong_bearer_is_not_helped_by_another_header(self, gateway):
        answer = await chat(gateway, **{"authorization": "Bearer wrong", "x-api-key": ALICE})
        assert answer.status_code == 401

    async def test_a_key_may_be_for_some_models_only(self, gateway, engine):
        bob = {"authorization": f"Bearer {BOB}"}
        assert (await chat(gateway, "other-model", **bob)).status_code == 200
        answer = await chat(gateway, "tale", **bob)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (403, "model_not_allowed")
        assert len(engine.seen) == 1

    async def test_near_names_are_only_those_the_key_may_use(self, gateway):
        answer = await chat(gateway, "tal", authorization=f"Bearer {BOB}")
        assert answer.status_code == 404
        assert "tale" not in answer.json()["error"]["message"].replace('"tal"', "")

    async def test_anthropics_shape_on_messages(self, gateway):
        answer = await gateway.client.post("/v1/messages", json=ask())
        assert answer.status_code == 401
        assert answer.json()["error"]["type"] == "authentication_error"


async def test_no_key_is_in_any_log_or_metric(gateway, caplog, capfd):
    caplog.set_level(logging.DEBUG)
    for key in (ALICE, BOB, "sk-wrong-key-555"):
        await chat(gateway, authorization=f"Bearer {key}")
        await gateway.client.get("/v1/models", headers={"x-api-key": key})
    metrics = (await gateway.client.get("/metrics")).text
    out, err = capfd.readouterr()
    for key in (ALICE, BOB, "sk-wrong-key-555"):
        for told in (metrics, out, err, caplog.text):
            assert key not in told


class TestAuthenticator:
    def test_without_keys_everybody_is_let_in_as_nobody(self):
        assert Authenticator().identify({}, Fields()) is None

    def test_a_reload_that_takes_a_key_away_takes_it_away(self):
        authenticator = Authenticator()
        headers = Fields([(b"x-api-key", ALICE.encode())])
        assert (
            authenticator.identify({"alice": Key(value=KeyHash.of(ALICE))}, headers).name == "alice"
        )
        others = {"bob": Key(value=KeyHash.of(BOB))}
        with pytest.raises(Unauthenticated):
            authenticator.identify(others, headers)


class TestForeignPages:
    """A browser sends what a page tells it to, also to this machine."""

    @pytest.fixture
    async def unlocked(self, tmp_path, engine):
        async with serving(tmp_path, routing(engine)) as running:
            yield running

    @pytest.mark.parametrize(
        "origin", ["https://evil.example", "http://10.0.0.7:8088", "null", "http://[", "x" * 500]
    )
    async def test_may_not_use_a_gateway_without_keys(self, unlocked, engine, origin):
        answer = await chat(unlocked, origin=origin)
        assert answer.status_code == 403
        assert answer.json()["error"]["code"] == "foreign_origin"
        assert not engine.seen

    @pytest.mark.parametrize(
        "origin",
        ["http://localhost:3000", "http://ui.localhost", "http://127.0.0.1:8088", "http://[::1]:1"],
    )
    async def test_those_of_this_machine_may(self, unlocked, origin):
        assert (await chat(unlocked, origin=origin)).status_code == 200

    async def test_with_keys_it_is_the_key_that_counts(self, gateway):
        headers = {"origin": "https://evil.example", "authorization": f"Bearer {ALICE}"}
        assert (await chat(gateway, **headers)).status_code == 200


class TestFallback:
    async def test_leads_nowhere_that_the_key_may_not_go(self, tmp_path, engine):
        async with scripted(failing(503)) as broken:
            document = routing(
                broken,
                keys={
                    "bob": {"value": "${BOB}", "models": ["tale"]},
                    "alice": {"value": "${ALICE}"},
                },
                model={"fallback": ["other"], "retry": {"attempts": 1}},
            )
            document["backends"]["second"] = {"use": "openai", "replicas": [engine.url]}
            document["models"]["other"] = {"backend": "second"}
            async with serving(tmp_path, document, ENV) as gateway:
                refused = await chat(gateway, **{"x-api-key": BOB})
                assert not engine.seen
                answered = await chat(gateway, **{"x-api-key": ALICE})
        assert (refused.status_code, answered.status_code) == (503, 200)


class TestReady:
    async def test_names_are_for_those_who_have_a_key(self, gateway):
        stranger = (await gateway.client.get("/ready")).json()
        known = (await gateway.client.get("/ready", headers={"x-api-key": ALICE})).json()
        assert set(stranger) == {"ready", "reason"}
        assert set(known["models"]) == {"tale", "other-model"}
