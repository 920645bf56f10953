"""Trouble in the words of the endpoint: Anthropic's messages and OpenAI's responses."""

from __future__ import annotations

import json

import pytest

from tests.support.answers import events
from tests.support.inprocess import routing, serving
from tests.support.upstream import (
    DONE,
    ENGINE_MODEL,
    event,
    failing,
    reply,
    scripted,
    stream,
)

MESSAGE = {"id": "m", "type": "message", "role": "assistant", "model": ENGINE_MODEL, "content": []}
STARTED = event("message_start", message={**MESSAGE, "usage": {"input_tokens": 3}})
BLOCK = event("content_block_start", index=0, content_block={"type": "text", "text": ""})
WORD = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "Once"})
STOP = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
OVER = event("message_stop")


async def messages(gateway, streamed=True, path="/v1/messages", **fields):
    body = {"model": "tale", "max_tokens": 8, "messages": [{"role": "user", "content": "Hi"}]}
    return await gateway.client.post(path, json={**body, "stream": streamed, **fields})


async def responses(gateway, streamed=True):
    return await gateway.client.post(
        "/v1/responses", json={"model": "tale", "input": "Hi", "stream": streamed}
    )


class TestMessages:
    async def test_a_whole_stream_passes_with_the_clients_model(self, tmp_path):
        script = stream(STARTED, BLOCK, event("ping"), WORD, STOP, OVER)
        async with scripted(script) as engine, serving(tmp_path, routing(engine)) as gateway:
            answer = await messages(gateway)
        assert events(answer.text)[0]["message"]["model"] == "tale"
        assert answer.text.endswith('event: message_stop\ndata: {"type":"message_stop"}\n\n')
        assert "[DONE]" not in answer.text
        assert "error" not in answer.text

    async def test_a_missing_stop_is_added_once_the_reason_is_known(self, tmp_path):
        async with (
            scripted(stream(STARTED, BLOCK, WORD, STOP)) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await messages(gateway)
        assert answer.text.count("event: message_stop") == 1

    @pytest.mark.parametrize(
        "ending",
        [
            (OVER,),
            (event("error", error={"type": "overloaded_error", "message": "too much"}),),
        ],
        ids=["no reason", "error"],
    )
    async def test_a_broken_one_ends_with_an_error_event(self, tmp_path, ending):
        async with (
            scripted(stream(STARTED, BLOCK, WORD, *ending)) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await messages(gateway)
        last = answer.text.removesuffix("\n\n").split("\n\n")[-1]
        assert last.startswith("event: error\ndata: ")
        said = json.loads(last.split("data: ", 1)[1])
        assert said["type"] == "error"
        assert set(said["error"]) == {"type", "message"}
        assert "message_stop" not in answer.text
        assert len(engine.seen) == 1

    async def test_before_the_first_word_another_replica_answers(self, tmp_path):
        overloaded = event("error", error={"type": "overloaded_error", "message": "too much"})
        async with (
            scripted(stream(STARTED, BLOCK, WORD, STOP, OVER)) as good,
            scripted(stream(STARTED, BLOCK, overloaded)) as bad,
            serving(tmp_path, routing(good, bad)) as gateway,
        ):
            answer = await messages(gateway)
        assert answer.text.count("message_start") == 2  # its name and its type
        assert "overloaded" not in answer.text
        assert (len(bad.seen), len(good.seen)) == (1, 1)

    @pytest.mark.parametrize(
        ("script", "status", "kind"),
        [
            (failing(400), 400, "invalid_request_error"),
            (failing(429), 429, "rate_limit_error"),
            (failing(500), 502, "api_error"),
            (failing(503), 503, "overloaded_error"),
            (reply({"detail": "Not Found"}, 404), 501, "api_error"),
        ],
    )
    @pytest.mark.parametrize("streamed", [True, False])
    async def test_errors_have_anthropics_shape(self, tmp_path, script, status, kind, streamed):
        async with scripted(script) as engine, serving(tmp_path, routing(engine)) as gateway:
            answer = await messages(gateway, streamed)
        assert answer.status_code == status
        said = answer.json()
        assert (said["type"], said["error"]["type"]) == ("error", kind)
        assert said["error"]["message"]

    @pytest.mark.parametrize("path", ["/v1/messages", "/v1/messages/count_tokens"])
    async def test_so_do_our_own(self, tmp_path, path):
        async with scripted() as engine, serving(tmp_path, routing(engine)) as gateway:
            unknown = await messages(gateway, False, path, model="nobody")
            wrong = await messages(gateway, False, path, messages=[])
            not_allowed = await gateway.client.get(path)
        assert [unknown.status_code, wrong.status_code, not_allowed.status_code] == [404, 400, 405]
        for answer in (unknown, wrong, not_allowed):
            assert answer.json()["type"] == "error"
            assert answer.json()["error"]["message"]
        assert unknown.json()["error"]["type"] == "not_found_error"

    async def test_counting_tokens_passes(self, tmp_path):
        async with (
            scripted(reply({"input_tokens": 14})) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await messages(gateway, False, "/v1/messages/count_tokens")
        assert answer.json() == {"input_tokens": 14}
        assert engine.seen[0].path == "/v1/messages/count_tokens"


CREATED = event("response.created", response={"id": "r", "model": ENGINE_MODEL})
TEXT = event("response.output_text.delta", delta="Once")
COMPLETED = event(
    "response.completed",
    response={
        "id": "r",
        "model": ENGINE_MODEL,
        "usage": {"input_tokens": 3, "output_tokens": 2},
    },
)


class TestResponses:
    async def test_a_whole_stream_passes_with_the_clients_model(self, tmp_path):
        async with (
            scripted(stream(CREATED, TEXT, COMPLETED)) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await responses(gateway)
        said = events(answer.text)
        assert [one["response"]["model"] for one in said if "response" in one] == ["tale"] * 2
        assert "[DONE]" not in answer.text

    @pytest.mark.parametrize(
        "ending",
        [
            (DONE,),
            (event("error", code="server_error", message="out of memory"),),
            (event("response.failed", response={"error": {"code": "x", "message": "no"}}),),
        ],
        ids=["DONE", "error", "failed"],
    )
    async def test_a_broken_one_ends_with_its_own_kind_of_error(self, tmp_path, ending):
        async with (
            scripted(stream(CREATED, TEXT, *ending)) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await responses(gateway)
        told, failed = events(answer.text)[-2:]
        assert told["type"] == "error"
        assert set(told) == {"type", "code", "message", "param", "error"}
        assert told["error"]["message"] == told["message"]
        assert failed["type"] == "response.failed"
        assert failed["response"]["id"] == "r"
        assert (failed["response"]["model"], failed["response"]["status"]) == ("tale", "failed")
        assert failed["response"]["error"] == {"code": "server_error", "message": told["message"]}
        assert "response.completed" not in answer.text
        assert len(engine.seen) == 1

    async def test_its_events_are_numbered_on(self, tmp_path):
        begun = event("response.created", sequence_number=0, response={"id": "r"})
        word = event("response.output_text.delta", sequence_number=7, delta="Once")
        script = stream(begun, word, b": still here\n\n")
        async with scripted(script) as engine, serving(tmp_path, routing(engine)) as gateway:
            answer = await responses(gateway)
        assert [one["sequence_number"] for one in events(answer.text)] == [0, 7, 8, 9]

    async def test_of_one_that_was_not_told_to_begin_none_is_told_to_have_failed(self, tmp_path):
        async with (
            scripted(stream(TEXT)) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await responses(gateway)
        assert [one["type"] for one in events(answer.text)][1:] == ["error"]

    async def test_before_the_first_text_another_replica_answers(self, tmp_path):
        failed = event("response.failed", response={"error": {"code": "x", "message": "no"}})
        async with (
            scripted(stream(CREATED, TEXT, COMPLETED)) as good,
            scripted(stream(CREATED, failed)) as bad,
            serving(tmp_path, routing(good, bad)) as gateway,
        ):
            answer = await responses(gateway)
        assert answer.text.count("response.created") == 2  # its name and its type
        assert (len(bad.seen), len(good.seen)) == (1, 1)

    async def test_errors_have_openais_shape(self, tmp_path):
        async with (
            scripted(failing(400, "no")) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await responses(gateway)
        assert answer.json()["error"]["message"] == "no"
