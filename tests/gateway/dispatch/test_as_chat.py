"""What a chat cannot say, or takes more than can be seen, decides who is asked."""

from __future__ import annotations

import pytest

from backends.base import Endpoint
from gateway.dispatch import as_chat
from tests.support.dialects import ASKED, LACKS, ask, backend, house
from tests.support.inprocess import serving
from tests.support.upstream import ENGINE_MODEL, completion, failing, reply, scripted


@pytest.fixture(params=list(ASKED))
def dialect(request):
    return request.param


async def test_a_request_that_is_wrong_reaches_nobody(tmp_path, dialect):
    wrong = {"messages": {"messages": [7]}, "responses": {"input": 7}}[dialect]
    async with (
        scripted() as engine,
        scripted() as native,
        house(tmp_path, engine, fallback=native) as gateway,
    ):
        answer = await ask(gateway, dialect, **wrong)
    assert answer.status_code == 400
    assert engine.seen == native.seen == []


IMPOSSIBLE = {
    "messages": {"mcp_servers": [{"name": "x"}]},
    "responses": {"previous_response_id": "resp_1"},
}


async def test_what_a_chat_cannot_say_is_refused_by_name(tmp_path, dialect):
    async with scripted() as engine, house(tmp_path, engine) as gateway:
        answer = await ask(gateway, dialect, stream=False, **IMPOSSIBLE[dialect])
    (field,) = IMPOSSIBLE[dialect]
    assert answer.status_code == 400
    assert f"`{field}`" in answer.json()["error"]["message"]
    assert engine.seen == []


async def test_a_fallback_that_speaks_the_dialect_is_asked_what_a_chat_cannot_say(
    tmp_path, dialect
):
    async with (
        scripted() as engine,
        scripted(reply({"model": ENGINE_MODEL, "native": True})) as native,
        house(tmp_path, engine, fallback=native) as gateway,
    ):
        answer = await ask(gateway, dialect, stream=False, **IMPOSSIBLE[dialect])
    assert answer.json() == {"model": "other", "native": True}
    assert engine.seen == []
    (seen,) = native.seen
    assert seen.path == f"/v1/{dialect}"
    assert seen.json[next(iter(IMPOSSIBLE[dialect]))]


async def test_what_a_chat_cannot_do_either_is_passed_over(tmp_path, dialect):
    """The dialect is no obstacle, the tools are."""
    tool = {"name": "f", "type": "function", "parameters": {}, "input_schema": {}}
    async with scripted() as engine:
        document = {
            "backends": {"plain": backend(engine, without=[*LACKS, "tools"])},
            "models": {"tale": {"backend": "plain"}},
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            answer = await ask(gateway, dialect, stream=False, tools=[tool])
    assert answer.status_code == 400
    assert "`tools`" in answer.json()["error"]["message"]
    assert engine.seen == []


SCHEMA = {"type": "json_schema", "name": "p", "schema": {"type": "object"}}
NEEDS = [
    ("messages", {"output_config": {"format": SCHEMA}}, "json_schema", "output_config"),
    ("messages", {"messages": [{"role": "assistant", "content": "x"}]}, "prefill", "messages"),
    ("responses", {"text": {"format": SCHEMA}}, "json_schema", "text"),
    ("responses", {"top_logprobs": 2}, "logprobs", "top_logprobs"),
]


@pytest.mark.parametrize(("dialect", "fields", "capability", "param"), NEEDS)
async def test_what_a_chat_needs_is_looked_at_as_well(tmp_path, dialect, fields, capability, param):
    async with (
        scripted() as engine,
        scripted(reply({"model": ENGINE_MODEL, "native": True})) as native,
    ):
        document = {
            "backends": {
                "plain": backend(engine, without=[*LACKS, capability]),
                "native": backend(native, without=[]),
            },
            "models": {
                "tale": {"backend": "plain", "fallback": ["other"]},
                "alone": {"backend": "plain"},
                "other": {"backend": "native"},
            },
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            answer = await ask(gateway, dialect, stream=False, **fields)
            refused = await ask(gateway, dialect, stream=False, model="alone", **fields)
    assert answer.json()["native"] is True
    assert refused.status_code == 400
    message = refused.json()["error"]["message"]
    assert message.startswith(f"`{param}`: ")
    assert message.endswith("models that can: other")
    assert engine.seen == []


@pytest.mark.parametrize(("dialect", "fields", "capability", "param"), NEEDS)
async def test_a_variant_whose_chats_cannot_leaves_it_to_one_that_can(
    tmp_path, dialect, fields, capability, param
):
    good = [reply(completion("Hello"))] * 20
    async with scripted() as unable, scripted(*good) as able:
        document = {
            "backends": {
                "unable": backend(unable, without=[*LACKS, capability]),
                "able": backend(able),
            },
            "models": {
                "tale": {"variants": {"a": {"backend": "unable"}, "b": {"backend": "able"}}},
            },
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            answers = [await ask(gateway, dialect, stream=False, **fields) for _ in range(20)]
    assert [one.status_code for one in answers] == [200] * 20
    assert {one.headers["x-gateway-variant"] for one in answers} == {"b"}
    assert unable.seen == []


@pytest.mark.parametrize("field", ["impossible", "wrong"])
async def test_a_variant_that_speaks_the_dialect_takes_what_a_chat_cannot_say(
    tmp_path, dialect, field
):
    wrong = {"messages": {"messages": [7]}, "responses": {"input": 7}}
    fields = (IMPOSSIBLE if field == "impossible" else wrong)[dialect]
    native_answer = reply({"model": ENGINE_MODEL, "native": True})
    async with scripted() as plain, scripted(*[native_answer] * 20) as native:
        document = {
            "backends": {"plain": backend(plain), "native": backend(native, without=[])},
            "models": {
                "tale": {"variants": {"a": {"backend": "plain"}, "b": {"backend": "native"}}},
            },
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            answers = [await ask(gateway, dialect, stream=False, **fields) for _ in range(20)]
    assert [one.json().get("native") for one in answers] == [True] * 20
    assert plain.seen == []


@pytest.mark.parametrize(("dialect", "fields", "capability", "param"), NEEDS[:2])
async def test_what_a_chat_needs_is_nothing_to_an_engine_that_speaks_the_dialect(
    tmp_path, dialect, fields, capability, param
):
    async with (
        scripted() as plain,
        scripted(reply({"model": ENGINE_MODEL, "native": True})) as native,
    ):
        document = {
            "backends": {
                "plain": backend(plain, without=[*LACKS, capability]),
                "native": backend(native, without=[capability]),
            },
            "models": {
                "tale": {"backend": "plain", "fallback": ["other"]},
                "other": {"backend": "native"},
            },
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            answer = await ask(gateway, dialect, stream=False, **fields)
    assert answer.json()["native"] is True


@pytest.mark.parametrize("refused", [False, True])
async def test_it_is_translated_once_however_many_are_asked(
    tmp_path, dialect, refused, monkeypatch
):
    made = []
    translate = as_chat.TRANSLATIONS[Endpoint(dialect)]

    def count(body):
        made.append(body)
        return translate(body)

    monkeypatch.setitem(as_chat.TRANSLATIONS, Endpoint(dialect), count)
    fields = IMPOSSIBLE[dialect] if refused else {}
    async with scripted(failing(500)) as first, scripted(reply(completion())) as second:
        document = {
            "backends": {"first": backend(first), "second": backend(second)},
            "models": {
                "tale": {"backend": "first", "fallback": ["spare"], "retry": {"attempts": 1}},
                "spare": {"backend": "second"},
            },
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            answer = await ask(gateway, dialect, stream=False, **fields)
    assert answer.status_code == (400 if refused else 200)
    assert len(made) == 1
