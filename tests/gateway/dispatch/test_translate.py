"""Other dialects through a gateway to engines that only have chats, good and bad ones."""

from __future__ import annotations

import json

import pytest

from tests.support.answers import events
from tests.support.chats import CALLED, TOLD, USAGE
from tests.support.dialects import ASKED, LACKS, ask, backend, house
from tests.support.inprocess import serving
from tests.support.upstream import (
    DONE,
    ENGINE_MODEL,
    FINISH,
    ROLE,
    STREAM_HEAD,
    Close,
    Drip,
    Reset,
    Send,
    Silence,
    chunk,
    chunked,
    completion,
    data,
    failing,
    reply,
    scripted,
    stream,
    text,
)

LAST = {"messages": "message_stop", "responses": "response.completed"}


@pytest.fixture(params=list(ASKED))
def dialect(request):
    return request.param


def kinds(answer):
    return [one["type"] for one in events(answer.text)]


async def test_a_stream(tmp_path, dialect):
    async with scripted(stream(*CALLED)) as engine, house(tmp_path, engine) as gateway:
        answer = await ask(gateway, dialect)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert kinds(answer)[-1] == LAST[dialect]
    assert ENGINE_MODEL not in answer.text
    assert "[DONE]" not in answer.text
    (seen,) = engine.seen
    assert seen.path == "/v1/chat/completions"
    assert seen.json["model"] == ENGINE_MODEL
    assert seen.json["stream_options"] == {"include_usage": True}


async def test_a_stream_that_comes_byte_by_byte(tmp_path, dialect):
    whole = b"".join(chunked(event) for event in TOLD) + b"0\r\n\r\n"
    script = (Send(STREAM_HEAD), Drip(whole, size=7))
    async with scripted(script) as engine, house(tmp_path, engine) as gateway:
        answer = await ask(gateway, dialect)
    assert kinds(answer)[-1] == LAST[dialect]


async def test_an_answer_in_one_piece(tmp_path, dialect):
    async with scripted(reply(completion("Hello"))) as engine, house(tmp_path, engine) as gateway:
        answer = await ask(gateway, dialect, stream=False)
    said = answer.json()
    assert int(answer.headers["content-length"]) == len(answer.content)
    assert said["model"] == "tale"
    content = said["content"] if dialect == "messages" else said["output"][0]["content"]
    assert content[0]["text"] == "Hello"
    assert said["usage"]["output_tokens"] == 1


async def test_the_access_counts_of_a_translated_stream_are_kept(tmp_path):
    async with scripted(stream(*TOLD)) as engine, house(tmp_path, engine) as gateway:
        await ask(gateway, "responses")
        metrics = (await gateway.client.get("/metrics")).text
    counted = [line for line in metrics.splitlines() if "token_usage_sum" in line]
    assert any(line.endswith(" 10.0") for line in counted)
    assert any(line.endswith(" 5.0") for line in counted)


@pytest.mark.parametrize(
    "ending",
    [
        (Reset(),),
        (Close(),),
        (),
        (DONE,),
        (b"data: {\n\n",),
        (data({"error": {"message": "out of memory", "code": 500}}),),
        (chunk({}, finish="abort"),),
        (Silence(),),
    ],
    ids=["reset", "cut", "ended", "no reason", "malformed", "error", "gave up", "silence"],
)
async def test_a_broken_stream_ends_with_the_dialects_error(tmp_path, dialect, ending):
    cut = isinstance(ending and ending[0], Reset | Close | Silence)
    script = (*stream(ROLE, text("Once"), *([] if cut else ending), ended=not cut),)
    script += ending if cut else ()
    async with (
        scripted(script) as engine,
        house(tmp_path, engine, timeouts={"idle": "150ms"}) as gateway,
    ):
        answer = await ask(gateway, dialect)
    *_, before, last = events(answer.text)
    error = last if dialect == "messages" else before
    assert error["type"] == "error"
    expected = {"type", "error"}
    if dialect == "responses":
        expected |= {"code", "message", "param", "sequence_number"}
        assert last["type"] == "response.failed"
        assert last["sequence_number"] == error["sequence_number"] + 1
    assert set(error) == expected
    assert LAST[dialect] not in answer.text
    assert answer.text.count("event: error") == 1
    assert len(engine.seen) == 1


@pytest.mark.parametrize(
    "bad",
    [
        stream(ROLE, data({"error": {"message": "busy", "code": 503}})),
        stream(ROLE, b"data: {\n\n"),
        stream(),
        stream(ROLE),
        stream(ROLE, DONE),
        failing(500),
        (Reset(),),
    ],
    ids=["error", "malformed", "empty", "role only", "no reason", "500", "reset"],
)
async def test_before_the_first_word_another_replica_answers(tmp_path, dialect, bad):
    async with (
        scripted(stream(*TOLD)) as good,
        scripted(bad) as broken,
        house(tmp_path, good, broken) as gateway,
    ):
        answer = await ask(gateway, dialect)
    assert kinds(answer)[-1] == LAST[dialect]
    assert (len(broken.seen), len(good.seen)) == (1, 1)


@pytest.mark.parametrize(
    "bad",
    [
        reply({"choices": []}),
        reply({"error": {"message": "busy", "code": 503}}),
        reply({**completion(), "choices": [{"message": {}, "finish_reason": "error"}]}),
        (Send(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"), Close()),
    ],
    ids=["no choice", "error", "gave up", "torn"],
)
async def test_a_bad_answer_in_one_piece_is_tried_again(tmp_path, dialect, bad):
    async with (
        scripted(reply(completion())) as good,
        scripted(bad) as broken,
        house(tmp_path, good, broken) as gateway,
    ):
        answer = await ask(gateway, dialect, stream=False)
    assert answer.status_code == 200
    assert (len(broken.seen), len(good.seen)) == (1, 1)


@pytest.mark.parametrize("streamed", [True, False])
async def test_a_clients_mistake_comes_back_in_its_dialect(tmp_path, dialect, streamed):
    async with scripted(failing(400, "too long")) as engine, house(tmp_path, engine) as gateway:
        answer = await ask(gateway, dialect, stream=streamed)
    assert answer.status_code == 400
    assert answer.json()["error"]["message"] == "too long"
    assert (answer.json().get("type") == "error") is (dialect == "messages")


async def test_a_fallback_gets_the_request_in_its_own_way(tmp_path, dialect):
    """From a chat that fails to an engine that speaks the dialect, and the other way round."""
    async with (
        scripted(failing(500)) as broken,
        scripted(reply({"model": ENGINE_MODEL, "native": True})) as native,
        house(tmp_path, broken, fallback=native, retry={"attempts": 1}) as gateway,
    ):
        answer = await ask(gateway, dialect, stream=False)
    assert answer.json()["native"] is True
    assert broken.seen[0].path == "/v1/chat/completions"
    untouched = {**native.seen[0].json, "model": "tale"}
    assert untouched == {"model": "tale", "stream": False, **ASKED[dialect]}


async def test_from_an_engine_that_speaks_the_dialect_to_one_that_has_chats(tmp_path, dialect):
    async with (
        scripted(failing(500)) as native,
        scripted(stream(*TOLD)) as plain,
    ):
        document = {
            "backends": {"native": backend(native, without=[]), "plain": backend(plain)},
            "models": {
                "tale": {"backend": "native", "fallback": ["spare"], "retry": {"attempts": 1}},
                "spare": {"backend": "plain"},
            },
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            answer = await ask(gateway, dialect)
    assert kinds(answer)[-1] == LAST[dialect]
    assert '"model":"spare"' in answer.text
    assert native.seen[0].path == f"/v1/{dialect}"
    assert plain.seen[0].path == "/v1/chat/completions"


async def test_an_engine_without_chats_is_asked_nothing(tmp_path, dialect):
    async with scripted() as engine:
        document = {
            "backends": {"plain": backend(engine, without=[*LACKS, "chat"])},
            "models": {"tale": {"backend": "plain"}},
            "telemetry": {"access_log": False},
        }
        async with serving(tmp_path, document) as gateway:
            answer = await ask(gateway, dialect, stream=False)
    assert answer.status_code == 501
    assert engine.seen == []


async def test_tokens_are_not_counted_by_engines_that_cannot(tmp_path):
    async with scripted() as engine, house(tmp_path, engine) as gateway:
        answer = await ask(gateway, "messages", path="messages/count_tokens")
    assert answer.status_code == 501
    assert json.loads(answer.text)["type"] == "error"
    assert engine.seen == []


async def test_a_client_that_leaves_stops_the_engine(tmp_path, dialect):
    script = (*stream(ROLE, text("Once"), ended=False), Silence())
    async with scripted(script) as engine, house(tmp_path, engine) as gateway:
        body = {"model": "tale", "stream": True, **ASKED[dialect]}
        async with gateway.client.stream("POST", f"/v1/{dialect}", json=body) as answer:
            async for line in answer.aiter_lines():
                if "Once" in line:
                    break
        await (await engine.asked()).gone()


async def test_an_engine_that_ignores_the_stream_is_answered_in_one_piece(tmp_path, dialect):
    async with scripted(reply(completion())) as engine, house(tmp_path, engine) as gateway:
        answer = await ask(gateway, dialect, stream=True)
    assert answer.json()["model"] == "tale"


async def test_usage_and_end_may_come_at_once(tmp_path, dialect):
    script = stream(b"".join((ROLE, text("Hi"), FINISH, USAGE, DONE)))
    async with scripted(script) as engine, house(tmp_path, engine) as gateway:
        answer = await ask(gateway, dialect)
    assert kinds(answer)[-1] == LAST[dialect]


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_an_engine_refuses_is_named_as_the_client_has(tmp_path, streamed):
    param = "messages[1].content[0].image_url"
    error = {"message": f"`{param}` is no URL", "param": param, "code": "invalid_image_url"}
    part = {"type": "input_image", "image_url": "x"}
    asked = {"instructions": "Be kind.", "input": [{"role": "user", "content": [part]}]}
    place = "input[0].content[0].image_url"
    script = reply({"error": {**error, "type": "invalid_request_error"}}, 400)
    async with (
        scripted(script) as engine,
        house(
            tmp_path,
            engine,
        ) as gateway,
    ):
        answer = await ask(gateway, "responses", stream=streamed, **asked)
    assert answer.status_code == 400
    said = answer.json()["error"]
    assert (said["message"], said["param"]) == (f"`{place}` is no URL", place)
    assert said["code"] == "invalid_image_url"


async def test_a_refusal_of_the_whole_request_stays_as_it_is(tmp_path, dialect):
    script = failing(400, "`max_tokens`, and the rest")
    async with scripted(script) as engine, house(tmp_path, engine) as gateway:
        answer = await ask(gateway, dialect, stream=False)
    assert answer.json()["error"]["message"] == "`max_tokens`, and the rest"
