"""Engines that answer beside the specification: what a client could read is not thrown away."""

from __future__ import annotations

import pytest

from tests.support.answers import error_of, is_done, said
from tests.support.inprocess import routing, serving
from tests.support.kinds import BOTH
from tests.support.upstream import (
    CHAT,
    DONE,
    FINISH,
    ROLE,
    Send,
    chunk,
    completion,
    data,
    reply,
    response,
    scripted,
    stream,
    text,
)

ODD_USAGE = {"prompt_tokens": 12.0, "completion_tokens": "2", "total_tokens": None}


class TestFieldsThatNobodyNeeds:
    @pytest.mark.parametrize(
        "answer",
        [
            completion(usage=ODD_USAGE),
            completion(usage=[1]),
            completion(model=None),
            completion(error=None),
            completion(choices=[{"index": None, "finish_reason": {"type": "stop"}}]),
            [{"index": 0, "score": 0.5}],
            "pong",
        ],
    )
    async def test_any_json_is_an_answer(self, tmp_path, answer):
        async with scripted(reply(answer)) as engine, serving(tmp_path, routing(engine)) as gateway:
            told = await gateway.chat()
        assert told.status_code == 200
        named = {"model": "tale"} if isinstance(answer, dict) and answer["model"] else {}
        assert told.json() == ({**answer, **named} if named else answer)
        assert len(engine.seen) == 1

    @pytest.mark.parametrize(
        "odd",
        [
            data({"choices": [], "usage": ODD_USAGE}),
            data({"choices": {}, "usage": None}),
            data({"choices": [{"index": None, "delta": {"content": "!"}}]}),
            chunk({"reasoning": {"text": "hm"}}),
            chunk({"reasoning_content": ["hm"], "refusal": {}}),
            data([]),
            data({"model": 5, "choices": [{"delta": "x", "logprobs": 3}]}),
        ],
    )
    async def test_a_stream_goes_on(self, tmp_path, odd):
        script = stream(ROLE, odd, text("Once"), FINISH, odd, DONE)
        async with scripted(script) as engine, serving(tmp_path, routing(engine)) as gateway:
            answer = await gateway.chat(stream=True)
        assert is_done(answer.text)
        assert "error" not in answer.text
        assert "Once" in answer.text
        assert len(engine.seen) == 1

    async def test_a_choice_without_a_number_is_the_first(self, tmp_path):
        last = data({"choices": [{"index": None, "delta": {}, "finish_reason": "stop"}]})
        script = stream(ROLE, text("Once"), last)
        async with scripted(script) as engine, serving(tmp_path, routing(engine)) as gateway:
            answer = await gateway.chat(stream=True)
        assert is_done(answer.text)


class TestAnErrorWithStatus200:
    @BOTH
    async def test_that_is_the_clients_own_is_told_once_and_as_what_it_is(self, tmp_path, streamed):
        error = {"message": "the prompt is too long", "code": 400, "param": "messages"}
        async with (
            scripted(reply({"error": error})) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await gateway.chat(stream=streamed)
        assert answer.status_code == 400
        assert answer.json()["error"]["param"] == "messages"
        assert len(engine.seen) == 1

    async def test_an_error_event_is_no_answer_of_its_own(self, tmp_path):
        rate = stream(data({"error": {"message": "slow down", "code": 429}}))
        async with scripted(rate) as busy, serving(tmp_path, routing(busy)) as gateway:
            answer = await gateway.chat(stream=True)
        assert answer.status_code == 429
        assert len(busy.seen) == 3

    async def test_a_clients_mistake_told_in_a_stream_is_a_400(self, tmp_path):
        bad = stream(data({"error": {"message": "bad grammar", "code": 400}}))
        async with scripted(bad) as strict, serving(tmp_path, routing(strict)) as gateway:
            answer = await gateway.chat(stream=True)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "bad grammar"
        assert len(strict.seen) == 1


class TestAnswersOutOfPlace:
    async def test_a_deep_error_is_an_error_like_any_other(self, tmp_path):
        body = b'{"error":' + b"[" * 100_000
        async with (
            scripted((Send(response(400, body)),)) as strange,
            serving(tmp_path, routing(strange)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code == 400

    async def test_a_json_answer_to_a_stream_request_is_handed_on(self, tmp_path):
        async with scripted(CHAT) as plain, serving(tmp_path, routing(plain)) as gateway:
            answer = await gateway.chat(stream=True)
        assert answer.status_code == 200
        assert answer.json()["model"] == "tale"

    async def test_data_for_the_stale_connection_is_not_the_next_answer(self, tmp_path):
        (send,) = CHAT
        greedy = (Send(send.data + response(200, b'{"model":"evil"}')),)
        async with scripted(greedy, CHAT) as odd, serving(tmp_path, routing(odd)) as gateway:
            answers = [(await gateway.chat()).json()["model"] for _ in range(3)]
        assert answers == ["tale"] * 3


@pytest.mark.parametrize("kind", ["text/event-stream", "Text/Event-Stream;charset=UTF-8"])
async def test_a_stream_is_one_however_its_type_is_spelled(tmp_path, kind):
    body = b"".join([ROLE, text("Once"), data({"error": {"message": "no"}})])
    script = (Send(response(200, body, ("content-type", kind))),)
    async with scripted(script) as engine, serving(tmp_path, routing(engine)) as gateway:
        answer = await gateway.chat(stream=True)
    assert said(answer.text.rpartition("data: ")[0]) == "Once"
    assert "no" in error_of(answer.text)["message"]
