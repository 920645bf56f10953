from __future__ import annotations

import json

import openai.types.responses
import pytest
from pydantic import TypeAdapter

from gateway.wire.translate.responses_request import ResponsesTranslation
from tests.support.chats import CALLED, TOLD, call, told, whole
from tests.support.upstream import DONE, FINISH, chunk, data, text

EVENT = TypeAdapter(openai.types.responses.ResponseStreamEvent)
LIKELY = {"token": "x", "bytes": [120], "logprob": -0.1, "top_logprobs": []}


def asked(**fields):
    return ResponsesTranslation(json.dumps({"model": "m", "input": "Hi", **fields}).encode())


def kinds(events):
    return [one["type"].removeprefix("response.") for one in events]


TEXT = ["output_item.added", "content_part.added", "output_text.delta"]
TEXT_END = ["output_text.done", "content_part.done", "output_item.done"]
THINKING_END = ["reasoning_text.done", "content_part.done", "output_item.done"]
CALL = ["output_item.added", "function_call_arguments.delta"]
CALL_END = ["function_call_arguments.done", "output_item.done"]


def test_the_events_of_a_text():
    events = told(asked(), *TOLD)
    assert kinds(events) == [
        *["created", "in_progress", *TEXT, "output_text.delta", *TEXT_END, "completed"],
    ]
    assert [one["sequence_number"] for one in events] == list(range(len(events)))
    assert [one["delta"] for one in events if "delta" in one] == ["Once", " upon"]
    done = {one["type"]: one for one in events}
    assert done["response.output_text.done"]["text"] == "Once upon"
    item = done["response.output_item.done"]["item"]
    assert item == {
        "type": "message",
        "id": "msg_c-1_0",
        "role": "assistant",
        "status": "completed",
        "content": [
            {"type": "output_text", "text": "Once upon", "annotations": [], "logprobs": []}
        ],
    }
    last = events[-1]["response"]
    assert last["output"] == [item]
    assert (last["id"], last["status"], last["model"]) == ("resp_c-1", "completed", "engine-model")
    assert last["usage"] == {
        "input_tokens": 10,
        "input_tokens_details": {"cached_tokens": 4, "cache_write_tokens": 0},
        "output_tokens": 5,
        "output_tokens_details": {"reasoning_tokens": 2},
        "total_tokens": 15,
    }
    assert {one["response"]["id"] for one in events if "response" in one} == {last["id"]}


def test_one_item_after_the_other():
    events = told(asked(), *CALLED)
    assert kinds(events) == [
        *["created", "in_progress"],
        *["output_item.added", "content_part.added", *["reasoning_text.delta"] * 2],
        *[*THINKING_END, *TEXT, *TEXT_END],
        *["output_item.added", *["function_call_arguments.delta"] * 2, *CALL_END],
        *[*CALL, *CALL_END, "completed"],
    ]
    output = events[-1]["response"]["output"]
    assert [item["type"] for item in output] == [
        *["reasoning", "message", "function_call", "function_call"]
    ]
    assert output[0]["content"] == [{"type": "reasoning_text", "text": "Let me see"}]
    assert output[2]["call_id"] == "call_0"
    assert [json.loads(item["arguments"]) for item in output[2:]] == [{"a": 1}, {"b": "ü"}]
    added = [one for one in events if one["type"] == "response.output_item.added"]
    assert [one["output_index"] for one in added] == [0, 1, 2, 3]
    assert [one["item"]["id"] for one in added] == [item["id"] for item in output]
    assert len({item["id"] for item in output}) == 4


@pytest.mark.parametrize("pieces", [TOLD, CALLED, (chunk({"refusal": "No"}), FINISH, DONE)])
def test_every_event_is_one_of_the_sdks(pieces):
    for one in told(asked(), *pieces):
        EVENT.validate_python(one)


@pytest.mark.parametrize(
    ("finish", "reason"), [("length", "max_output_tokens"), ("content_filter", "content_filter")]
)
def test_an_answer_that_is_not_whole_says_so(finish, reason):
    last = told(asked(), text("x"), chunk({}, finish=finish), DONE)[-1]
    assert last["type"] == "response.incomplete"
    assert last["response"]["status"] == "incomplete"
    assert last["response"]["incomplete_details"] == {"reason": reason}
    assert last["response"]["output"][0]["status"] == "incomplete"
    assert last["response"]["usage"] is None


def test_a_refusal():
    events = told(asked(), chunk({"refusal": "I must not"}), FINISH, DONE)
    assert "response.refusal.delta" in [one["type"] for one in events]
    content = events[-1]["response"]["output"][0]["content"]
    assert content == [{"type": "refusal", "refusal": "I must not"}]


def test_log_probabilities():
    choice = {"index": 0, "delta": {"content": "x"}, "logprobs": {"content": [LIKELY]}}
    events = told(asked(), data({"id": "c", "choices": [choice]}), FINISH, DONE)
    (delta,) = [one for one in events if one["type"] == "response.output_text.delta"]
    assert delta["logprobs"] == [LIKELY]
    assert events[-1]["response"]["output"][0]["content"][0]["logprobs"] == [LIKELY]


def test_log_probabilities_count_for_the_length_of_an_answer(monkeypatch):
    choice = {"index": 0, "delta": {"content": "x"}, "logprobs": {"content": [LIKELY] * 9}}
    chunks = [data({"id": "c", "choices": [choice]}) for _ in range(3)]
    monkeypatch.setattr("gateway.wire.translate.writer.MAX_ANSWER", 1000)
    last = told(asked(), *chunks, FINISH, DONE)[-1]
    assert "longer than" in json.dumps(last)


def test_a_call_without_an_id_gets_one():
    events = told(asked(), call(0, "{}", "f", call_id=""), FINISH, DONE)
    assert events[-1]["response"]["output"][0]["call_id"]


class TestWhole:
    def test_a_response_repeats_what_was_asked(self):
        tool = {"type": "function", "name": "f", "parameters": {}, "strict": True}
        given = {
            "instructions": "Be.",
            "metadata": {"a": "b"},
            "temperature": 0.5,
            "tools": [tool],
            "max_output_tokens": 9,
            "text": {"format": {"type": "json_object"}},
        }
        said = whole(asked(**given), {"content": "Hi"})
        openai.types.responses.Response.model_validate(said)
        assert {name: said[name] for name in given} == given
        assert (said["id"], said["created_at"]) == ("resp_1", 99)
        assert (said["parallel_tool_calls"], said["tool_choice"]) == (True, "auto")
        assert said["output"][0]["content"][0]["text"] == "Hi"

    def test_an_empty_one(self):
        said = whole(asked(), {"content": ""}, id="", created=None, model="")
        assert said["output"] == []
        assert said["status"] == "completed"
        assert (said["id"], said["created_at"], said["model"]) == ("resp_fallback", 1234, "m")

    def test_a_call(self):
        calls = [{"id": "c", "function": {"name": "f", "arguments": '{"a": 1}'}}]
        (item,) = whole(asked(), {"content": None, "tool_calls": calls})["output"]
        assert item == {
            "type": "function_call",
            "id": "fc_1_0",
            "call_id": "c",
            "name": "f",
            "arguments": '{"a": 1}',
            "status": "completed",
        }
