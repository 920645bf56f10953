from __future__ import annotations

import json

import pytest

from tests.support.answers import events
from tests.support.inprocess import post, routing, serving
from tests.support.upstream import (
    CHAT,
    DONE,
    ENGINE_MODEL,
    FINISH,
    completion,
    data,
    failing,
    reply,
    scripted,
    stream,
    text,
)

ODD = (
    '{"model":"tale","messages":[{"role":"user","content":"\\u00e9 \\"model\\":\\"tale\\""}],'
    '"big":123456789012345678901234567890,"small":1e-400,"huge":1e400,"minus":-0.0,'
    '"precise":1.0000000000000000000000001,"spaced":[1 , 2],"empty":{},"nested":{"model":"tale"},'
    '"emoji":"\\ud83d\\ude00","raw":"é","new_parameter":true}'
).encode()


END_ONLY = data({"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})


class TestRequest:
    async def test_all_but_the_model_passes_byte_for_byte(self, gateway, engine):
        status, _, _ = await gateway.exchange(post(ODD))
        assert status == 200
        want = ODD.replace(b'"model":"tale"', b'"model":"engine-model"', 1)
        assert engine.seen[0].body == want

    async def test_with_the_same_name_all_of_it_does(self, tmp_path):
        async with scripted(CHAT) as engine:
            document = routing(engine)
            document["backends"]["engine"]["model"] = "tale"
            async with serving(tmp_path, document) as gateway:
                body = b'\n {"x" : 1, "x":2,\t"model": "tale" , "messages":[1]}\n'
                await gateway.exchange(post(body))
        assert engine.seen[0].body == body

    async def test_of_a_field_given_twice_the_last_counts_for_everybody(self, tmp_path, engine):
        body = b'{"model":"nobody","messages":[1],"x":1,"x":2,"model":"tale"}'
        async with serving(tmp_path, routing(engine)) as gateway:
            status, _, _ = await gateway.exchange(post(body))
        assert status == 200
        assert engine.seen[0].json == {"model": ENGINE_MODEL, "messages": [1], "x": 2}

    @pytest.mark.parametrize(
        "path",
        ["chat/completions", "completions", "embeddings", "responses", "messages", "rerank"],
    )
    async def test_each_endpoint_is_asked_at_its_own_path(self, gateway, engine, path):
        body = {"model": "tale", "messages": [1], "prompt": "x", "input": "x", "query": "q"}
        answer = await gateway.client.post(f"/v1/{path}", json=body)
        assert answer.status_code == 200
        assert engine.seen[0].path == f"/v1/{path}"

    async def test_a_query_does_not_reach_the_engine(self, gateway, engine):
        body = {"model": "tale", "messages": [1]}
        await gateway.client.post("/v1/chat/completions?api-version=1", json=body)
        assert engine.seen[0].path == "/v1/chat/completions"


class TestAnswer:
    async def test_the_model_has_the_clients_name_again(self, tmp_path):
        more = {"big": 12345678901234567890123, "nested": {"model": ENGINE_MODEL}}
        words = f'{{"model":"{ENGINE_MODEL}"}}'
        async with (
            scripted(reply(completion(words, **more))) as engine,
            serving(tmp_path, routing(engine, model={"aliases": ["gpt-4o"]})) as gateway,
        ):
            answer = await gateway.chat(model="gpt-4o")
        said = answer.json()
        assert said["model"] == "gpt-4o"
        assert said["choices"][0]["message"]["content"] == words
        assert said["big"] == more["big"]
        assert said["nested"] == more["nested"]

    async def test_so_it_has_in_every_event_and_no_text_is_touched(self, tmp_path):
        words = f'{{"model":"{ENGINE_MODEL}", "model": "{ENGINE_MODEL}"}}'
        async with (
            scripted(stream(text(words), text(words), FINISH, DONE)) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        said = events(answer.text)
        assert [one["model"] for one in said] == ["tale"] * 3
        assert [one["choices"][0]["delta"].get("content") for one in said[:2]] == [words] * 2

    @pytest.mark.parametrize("name", ["a/b", "ünïcode", 'quo"te', "back\\slash"])
    async def test_whatever_the_engine_calls_it(self, tmp_path, name):
        event = json.loads(text("x").removeprefix(b"data: "))
        body = json.dumps({**event, "model": name}, ensure_ascii=False).encode()
        async with (
            scripted(stream(b"data: " + body + b"\n\n", END_ONLY, DONE)) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        assert events(answer.text)[0]["model"] == "tale"

    async def test_an_answer_too_long_to_hold_is_handed_on_as_it_comes(self, tmp_path):
        async with (
            scripted(reply(completion("x" * (12 << 20)))) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await gateway.chat()
        assert len(answer.json()["choices"][0]["message"]["content"]) == 12 << 20

    async def test_a_stream_is_marked_as_one(self, tmp_path):
        async with (
            scripted(stream(text("x"), FINISH, DONE)) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        assert answer.headers["content-type"].startswith("text/event-stream")
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-length" not in answer.headers


class TestUnknownModel:
    @pytest.mark.parametrize("name", ["tael", "TALE", "tale "])
    async def test_the_nearest_name_is_told(self, gateway, engine, name):
        answer = await gateway.chat(model=name)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"]) == (404, "model_not_found")
        assert error["param"] == "model"
        assert "'tale'" in error["message"]
        assert engine.seen == []

    async def test_a_name_as_long_as_a_book_is_not_repeated(self, gateway):
        answer = await gateway.chat(model="x" * 50_000)
        assert answer.status_code == 404
        assert len(answer.content) < 1000

    async def test_a_strange_name_is_no_crash(self, gateway):
        for name in ("\0", "😀", "../../etc/passwd", "*", "\n"):
            assert (await gateway.chat(model=name)).status_code == 404


async def test_a_bug_is_500_that_tells_where_to_look_and_nothing_else(
    gateway, engine, monkeypatch, caplog
):
    def broken(*_):
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr("gateway.api.inference.peek", broken)
    answer = await gateway.chat()
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (500, "internal_error")
    assert answer.headers["x-request-id"] in error["message"]
    assert "secret detail" not in answer.text
    assert "secret detail" in caplog.text


@pytest.mark.parametrize(("asked", "told"), [("0.2", "1"), ("1.2", "2"), ("30", "30")])
async def test_nobody_is_told_to_come_back_too_soon(tmp_path, asked, told):
    model = {"retry": {"attempts": 1}}
    async with (
        scripted(failing(429, "later", ("retry-after", asked))) as engine,
        serving(tmp_path, routing(engine, model=model)) as gateway,
    ):
        answer = await gateway.chat()
    assert (answer.status_code, answer.headers["retry-after"]) == (429, told)
