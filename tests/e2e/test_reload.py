"""SIGHUP, and a saved file: validated first, swapped whole, and nobody in flight notices."""

from __future__ import annotations

from collections import Counter

import openai
import pytest

from tests.support.children import wait_until
from tests.support.gateway import GatewayProcess

ASK = [{"role": "user", "content": "What is 3 + 4?"}]


def config(servers, stable: float, canary: float) -> str:
    first, second = servers
    return (
        "backends:\n"
        f"  first: {{use: llama_server, replicas: ['{first.url}']}}\n"
        f"  second: {{use: llama_server, replicas: ['{second.url}']}}\n"
        "models:\n"
        "  tiny-tale:\n"
        "    sticky: user\n"
        "    variants:\n"
        f"      stable: {{backend: first, weight: {stable}}}\n"
        f"      canary: {{backend: second, weight: {canary}}}\n"
    )


def only(server) -> str:
    return (
        f"backends: {{only: {{use: llama_server, replicas: ['{server.url}']}}}}\n"
        "models: {tiny-tale: {backend: only}, another: {backend: only}}\n"
    )


def variants(gateway: GatewayProcess, users: int = 40) -> dict[str, str]:
    """The variant that each user gets."""
    found = {}
    with gateway.openai() as client:
        for number in range(users):
            raw = client.chat.completions.with_raw_response.create(
                model="tiny-tale", messages=ASK, max_tokens=1, user=f"user-{number}"
            )
            found[f"user-{number}"] = raw.headers["x-gateway-variant"]
    return found


@pytest.fixture
def gateway(start_gateway, two_llamas):
    gateway = start_gateway(config(two_llamas, 100, 0))
    gateway.wait_model("tiny-tale")
    return gateway


@pytest.mark.parametrize("how", ["saved", "hangup"])
def test_a_weight_that_changes_moves_traffic(gateway, two_llamas, how):
    assert Counter(variants(gateway).values()) == {"stable": 40}
    gateway.rewrite(config(two_llamas, 50, 50))
    if how == "hangup":
        gateway.hangup()
    gateway.wait_log("is in force")
    half = variants(gateway)
    assert 8 <= Counter(half.values())["canary"] <= 32, "40 draws at 1/2: 1 in 10,000 is outside"
    said = gateway.child.log().count("is in force")
    gateway.rewrite(config(two_llamas, 50, 100))
    gateway.hangup()
    wait_until(lambda: gateway.child.log().count("is in force") > said, 10, "no second reload")
    more = variants(gateway)
    stayed = {user for user, variant in half.items() if variant == "canary"}
    assert all(more[user] == "canary" for user in stayed), "a share that grows takes nobody away"


def test_a_hangup_without_news_says_so(gateway):
    gateway.hangup()
    gateway.wait_log("says nothing new")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda text: text.replace("backend: second", "backend: secnd"), "did you mean"),
        (lambda text: text + "modles: {}\n", "modles"),
        (lambda text: text + "  - [", "routing.yaml"),
        (lambda text: "", "routing.yaml"),
    ],
)
def test_a_bad_file_changes_nothing_and_says_so(gateway, two_llamas, spoil, told):
    good = config(two_llamas, 0, 100)
    gateway.rewrite(spoil(good))
    gateway.hangup()
    gateway.wait_log("what was in force stays")
    assert told in gateway.child.log().lower()
    assert "Traceback" not in gateway.child.log()
    assert Counter(variants(gateway, 10).values()) == {"stable": 10}
    gateway.rewrite(good)
    gateway.wait_log("is in force")
    assert Counter(variants(gateway, 10).values()) == {"canary": 10}


def test_streams_in_flight_keep_what_they_began_with(start_gateway, start_llama_server, two_llamas):
    """Its backend is not even in the new file, and still it goes on to its end."""
    first = start_llama_server("--context-shift")
    gateway = start_gateway(config((first, two_llamas[1]), 100, 0))
    gateway.wait_model("tiny-tale")
    with gateway.openai() as client:
        stream = client.chat.completions.create(
            model="tiny-tale",
            messages=ASK,
            max_tokens=1_000_000,
            stream=True,
            extra_body={"ignore_eos": True},
        )
        next(iter(stream))
        gateway.rewrite(only(two_llamas[1]))
        gateway.wait_log("is in force")
        assert {model.id for model in client.models.list()} == {"tiny-tale", "another"}
        raw = client.chat.completions.with_raw_response.create(model="another", messages=ASK)
        assert raw.headers["x-gateway-replica"].endswith(str(two_llamas[1].port))
        for _ in range(500):
            assert next(stream).choices[0].finish_reason is None
        stream.close()
    wait_until(lambda: first.busy_slots() == 0, 5, "the engine goes on")


def test_a_model_that_is_gone_is_gone(gateway, two_llamas):
    gateway.rewrite(only(two_llamas[0]).replace("tiny-tale: {backend: only}, ", ""))
    gateway.wait_log("is in force")
    with gateway.openai() as client, pytest.raises(openai.NotFoundError):
        client.chat.completions.create(model="tiny-tale", messages=ASK)


def test_keys_cannot_be_taken_away_from_a_gateway_that_others_can_reach(start_gateway):
    """The new file alone would be fine; but the socket is where it was."""
    engine = "backends: {gone: {use: openai, replicas: ['http://127.0.0.1:9']}}\n"
    models = "models: {gone: {backend: gone}}\n"
    keys = "keys: {alice: {value: 'sk-alice-and-more'}}\n"
    gateway = start_gateway(engine + models + keys, args=["--host", "0.0.0.0"])
    gateway.host = "127.0.0.1"
    assert gateway.request("GET", "/v1/models")[0] == 401
    gateway.rewrite(engine + models)
    gateway.hangup()
    gateway.wait_log("it has no keys any more")
    assert gateway.request("GET", "/v1/models")[0] == 401
