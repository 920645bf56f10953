"""Answers that break off and go on from the text so far: what each side sees of it."""

from __future__ import annotations

import json

from tests.faults.breaking_off import (
    DEAD,
    GOOD,
    answer,
    asked_for,
    engines,
    generations,
    greedy,
    is_whole,
)
from tests.support.answers import error_of, events, is_done, said
from tests.support.inprocess import ask, serving
from tests.support.upstream import DONE, data, event, scripted, stream


class TestContinue:
    async def test_gives_the_text_so_far_to_the_engine(self, tmp_path):
        async with (
            scripted(stream(*answer(" a", " time"))) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad, use="llama_server")) as gateway,
        ):
            reply = await gateway.chat(stream=True, max_tokens=50)
        assert is_whole(reply)
        [asked] = map(asked_for, generations(good))
        assert asked["messages"][-1] == {"role": "assistant", "content": "Once upon"}
        assert asked["continue_final_message"] is True
        assert asked["max_tokens"] == 48

    async def test_tells_the_usage_of_both_together(self, tmp_path):
        async with (
            scripted(stream(*answer(" a", " time", usage=(9, 2)))) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad, use="vllm")) as gateway,
        ):
            reply = await gateway.chat(stream=True, stream_options={"include_usage": True})
        assert events(reply.text)[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 4}

    async def test_follows_a_replay_that_said_something_else(self, tmp_path):
        async with (
            scripted(stream(*answer("Once", " more")), stream(*answer(" a", " time"))) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad, use="llama_server")) as gateway,
        ):
            reply = await greedy(gateway)
        assert is_whole(reply)
        assert (len(bad.seen), len(generations(good))) == (1, 2)

    async def test_of_another_dialect_is_asked_in_a_chat(self, tmp_path):
        delta = {"type": "text_delta", "text": "Once upon"}
        begun = (
            event("message_start", message={"id": "msg_A", "model": "m", "usage": {}}),
            event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            event("content_block_delta", index=0, delta=delta),
        )
        async with (
            scripted(stream(*answer(" a", " time"))) as good,
            scripted(stream(*begun)) as bad,
            serving(tmp_path, engines(good, bad, use="llama_server")) as gateway,
        ):
            reply = await gateway.client.post("/v1/messages", json=ask(stream=True, max_tokens=9))
        paths = [one.path for one in (*bad.seen, *generations(good))]
        assert paths == ["/v1/messages", "/v1/chat/completions"]
        told = [json.loads(line[6:]) for line in reply.text.splitlines() if line[:6] == "data: "]
        assert (
            "".join(one["delta"]["text"] for one in told if one["type"] == "content_block_delta")
            == "Once upon a time"
        )
        assert [one["type"] for one in told].count("message_start") == 1
        assert told[0]["message"]["id"] == "msg_A"
        assert told[-1]["type"] == "message_stop"

    async def test_is_nothing_for_a_server_of_which_nothing_is_known(self, tmp_path):
        async with (
            scripted(GOOD) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad)) as gateway,
        ):
            reply = await gateway.chat(stream=True)
        assert said(reply.text) == "Once upon"
        assert f"engine@{bad.id}" in error_of(reply.text)["message"]
        assert not good.seen


async def test_a_completion_goes_on_at_any_server(tmp_path):
    def said_by(*words):
        return [
            data({"id": "c-1", "choices": [{"index": 0, "text": word, "finish_reason": None}]})
            for word in words
        ]

    ending = data({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    async with (
        scripted(stream(*said_by(" a", " time"), ending, DONE)) as good,
        scripted(stream(*said_by("Once", " upon"))) as bad,
        serving(tmp_path, engines(good, bad)) as gateway,
    ):
        body = {"model": "tale", "prompt": "Tell: ", "stream": True}
        reply = await gateway.client.post("/v1/completions", json=body)
    assert asked_for(good.seen[0])["prompt"] == "Tell: Once upon"
    told = events(reply.text)
    assert "".join(one["choices"][0]["text"] for one in told) == "Once upon a time"
    assert is_done(reply.text)
