"""What goes wrong is raised by OpenAI's SDK as the right exception, whoever is to blame."""

from __future__ import annotations

import json

import openai
import pytest

from tests.e2e.conftest import MLX, AsyncSdk, SyncSdk
from tests.e2e.test_sdk import CAPITAL
from tests.support.engines import MODEL_DIR, free_port

PIXEL = (
    "data:image/png;base64,iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9Q"
    "DwADhgGAWjR9awAAAABJRU5ErkJggg=="
)

KEYED = f"""
backends:
  tale: {{use: mlx, model: {MODEL_DIR}}}
models:
  tiny-tale: {{backend: tale}}
  secret: {{backend: tale}}
keys:
  alice: {{value: "${{ALICE_KEY}}", models: [tiny-tale]}}
"""


async def test_an_unknown_model_with_its_nearest_names(sdk):
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk(lambda c: c.chat.completions.create(model="mlxx", messages=CAPITAL))
    assert missing.value.code == "model_not_found"
    assert missing.value.param == "model"
    assert f"Did you mean '{MLX}'" in missing.value.message


async def test_an_unknown_model_asked_for_by_name(sdk):
    with pytest.raises(openai.NotFoundError) as missing:
        await sdk(lambda c: c.models.retrieve("no/such-model"))
    assert missing.value.code == "model_not_found"


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": []}, "messages"),
        ({"messages": "hello"}, "messages"),
        ({"messages": CAPITAL, "stream": "yes"}, "stream"),
        ({"messages": CAPITAL, "temperature": "hot"}, "temperature"),
        ({"messages": CAPITAL, "n": 0}, "n"),
    ],
)
async def test_a_field_that_is_wrong_is_named(sdk, fields, param):
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk(
            lambda c: c.chat.completions.create(model=MLX, messages=CAPITAL, extra_body=fields)
        )
    assert refused.value.type == "invalid_request_error"
    assert refused.value.param == param
    assert param in refused.value.message


async def test_a_prompt_that_is_too_long(sdk, engine):
    with pytest.raises(openai.BadRequestError) as refused:
        await sdk(
            lambda c: c.chat.completions.create(
                model=engine, messages=[{"role": "user", "content": "word " * 6000}]
            )
        )
    assert refused.value.code == "context_length_exceeded"


async def test_a_request_that_is_too_large(sdk):
    """The SDK writes all of it before it reads: the connection must not break meanwhile."""
    text = "x" * (40 << 20)  # beyond the default of `server.limits.body`, and what sockets hold
    with pytest.raises(openai.APIStatusError) as refused:
        await sdk(
            lambda c: c.chat.completions.create(
                model=MLX, messages=[{"role": "user", "content": text}]
            )
        )
    assert refused.value.status_code == 413
    assert refused.value.code == "request_too_large"


async def test_an_image_reaches_an_engine_that_says_itself_what_it_cannot_do(
    sdk, house, http_engine
):
    """The gateway does not look into the parts of a message: the refusal is the engine's own."""
    parts = [
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": PIXEL}},
    ]
    with pytest.raises(openai.APIStatusError) as refused:
        await sdk(
            lambda c: c.chat.completions.create(
                model=http_engine, messages=[{"role": "user", "content": parts}]
            )
        )
    assert 400 <= refused.value.status_code < 500, refused.value
    assert refused.value.type == "invalid_request_error"
    assert any(word in refused.value.message.lower() for word in ("image", "multimodal"))
    assert house.ready()[1]["models"][http_engine] == "ready", "a client's mistake ejected it"


async def test_broken_json_in_anybodys_shape(house):
    for path in ("/v1/chat/completions", "/v1/responses"):
        status, _, body = house.request("POST", path, None)
        assert status == 400
        assert json.loads(body)["error"]["type"] == "invalid_request_error"
    status, _, body = house.request("POST", "/v1/messages", None)
    assert status == 400
    assert json.loads(body)["type"] == "error"


@pytest.fixture
def keyed(start_gateway):
    gateway = start_gateway(KEYED, env={"ALICE_KEY": "sk-alice-1"})
    gateway.wait_model("tiny-tale", key="sk-alice-1")
    return gateway


@pytest.mark.parametrize("flavour", ["sync", "async"])
async def test_keys(keyed, flavour):
    def sdk(key: str) -> AsyncSdk | SyncSdk:
        if flavour == "sync":
            return SyncSdk(keyed.openai(api_key=key))
        return AsyncSdk(keyed.async_openai(api_key=key))

    def ask(model: str, **options):
        return lambda c: c.chat.completions.create(
            model=model, messages=CAPITAL, temperature=0, max_tokens=2, **options
        )

    right, wrong = sdk("sk-alice-1"), sdk("sk-alice-2")
    assert (await right(ask("tiny-tale"))).choices
    assert [model.id for model in (await right(lambda c: c.models.list())).data] == ["tiny-tale"]

    with pytest.raises(openai.AuthenticationError) as refused:
        await wrong(ask("tiny-tale"))
    assert refused.value.code == "invalid_api_key"
    with pytest.raises(openai.AuthenticationError):
        await wrong(lambda c: c.models.list())
    with pytest.raises(openai.AuthenticationError) as unnamed:
        await right(ask("tiny-tale", extra_headers={"authorization": ""}))
    assert unnamed.value.code == "missing_api_key"

    with pytest.raises(openai.PermissionDeniedError) as forbidden:
        await right(ask("secret"))
    assert forbidden.value.code == "model_not_allowed"
    assert "alice" in forbidden.value.message
    for told in (keyed.child.log(), keyed.child.out.read_text()):
        assert "sk-alice" not in told

    for client in (right.client, wrong.client):
        await client.close() if flavour == "async" else client.close()


async def test_anthropics_client_sends_its_key_in_its_own_header(keyed):
    status, _, body = keyed.request(
        "POST",
        "/v1/messages",
        {"model": "tiny-tale", "max_tokens": 4, "messages": CAPITAL},
        {"x-api-key": "sk-alice-1"},
    )
    assert (status, json.loads(body)["type"]) == (200, "message")


async def test_a_full_engine_is_a_rate_limit(start_gateway):
    gateway = start_gateway(
        f"backends: {{tale: {{use: mlx, model: {MODEL_DIR}, max_batch: 1, max_waiting: 0}}}}\n"
        "models: {tiny-tale: {backend: tale}}\n"
    )
    busy = {"temperature": 0, "max_tokens": 3000, "extra_body": {"ignore_eos": True}}
    with gateway.openai() as client:
        stream = client.chat.completions.create(
            model="tiny-tale", messages=CAPITAL, stream=True, **busy
        )
        next(iter(stream))
        with pytest.raises(openai.RateLimitError) as limited:
            client.chat.completions.create(model="tiny-tale", messages=CAPITAL)
        assert limited.value.response.headers["retry-after"]
        assert limited.value.response.headers["x-gateway-attempts"] == "1"
        assert "full" in limited.value.message
        stream.close()


@pytest.mark.parametrize("stream", [False, True])
async def test_when_all_engines_are_dead(start_gateway, stream):
    port = free_port()
    gateway = start_gateway(
        f"backends: {{gone: {{use: llama_server, replicas: ['http://127.0.0.1:{port}']}}}}\n"
        "models: {gone: {backend: gone}}\n"
    )
    assert gateway.ready()[0] == 503
    assert "refused" in gateway.ready()[1]["models"]["gone"]
    with gateway.openai() as client, pytest.raises(openai.InternalServerError) as failed:
        client.chat.completions.create(model="gone", messages=CAPITAL, stream=stream)
    assert failed.value.status_code == 503
    assert failed.value.response.headers["retry-after"]
    assert failed.value.type == "service_unavailable"
    assert failed.value.response.headers["x-gateway-attempts"] == "3"
