from __future__ import annotations

import anthropic.types
import pytest
from pydantic import TypeAdapter

from gateway.wire.json_answer import MalformedAnswerError
from gateway.wire.translate.messages_request import MessagesTranslation
from tests.support.chats import CALLED, IDENTITY, TOLD, USAGE, call, told, whole
from tests.support.upstream import DONE, FINISH, ROLE, chunk, data, text

ASKED = b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}'
EVENT = TypeAdapter(anthropic.types.RawMessageStreamEvent)


@pytest.fixture
def translation():
    return MessagesTranslation(ASKED)


def stop(translation, *pieces):
    """The last `message_delta` after `pieces`, as reason and stop sequence."""
    delta = told(translation, ROLE, *pieces, DONE)[-2]["delta"]
    return delta["stop_reason"], delta["stop_sequence"]


def finish(reason, **fields):
    choice = {"index": 0, "delta": {}, "finish_reason": reason, **fields}
    return data({"id": "c-1", "model": "engine-model", "choices": [choice]})


def test_the_events_of_a_text(translation):
    events = told(translation, *TOLD)
    usage = {
        "input_tokens": 6,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": 4,
        "output_tokens": 5,
    }
    assert events[0]["message"]["id"] == "msg_c-1"
    assert events[1:] == [
        {
            "type": "content_block_start",
            "index": 0,
            "content_block": {"type": "text", "text": ""},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": "Once"},
        },
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": " upon"},
        },
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": usage,
        },
        {"type": "message_stop"},
    ]


def test_one_block_after_the_other(translation):
    events = told(translation, *CALLED)
    assert [(one["type"], one["index"]) for one in events if "index" in one] == [
        *[("content_block_start", 0), *[("content_block_delta", 0)] * 2],
        *[("content_block_stop", 0), ("content_block_start", 1), ("content_block_delta", 1)],
        *[("content_block_stop", 1), ("content_block_start", 2)],
        *[*[("content_block_delta", 2)] * 2, ("content_block_stop", 2)],
        *[("content_block_start", 3), ("content_block_delta", 3), ("content_block_stop", 3)],
    ]
    begun = [one["content_block"] for one in events if one["type"] == "content_block_start"]
    assert begun == [
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "text", "text": ""},
        {"type": "tool_use", "id": "call_0", "name": "f", "input": {}},
        {"type": "tool_use", "id": "call_1", "name": "g", "input": {}},
    ]


@pytest.mark.parametrize("pieces", [TOLD, CALLED])
def test_every_event_is_one_of_the_sdks(translation, pieces):
    for one in told(translation, *pieces):
        EVENT.validate_python(one)


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (FINISH, ("end_turn", None)),
        (finish("length"), ("max_tokens", None)),
        (finish("content_filter"), ("refusal", None)),
        (finish("eos"), ("end_turn", None)),
        (finish("stop", stop_reason="END"), ("stop_sequence", "END")),
        (finish("stop", stop_reason=151645), ("end_turn", None)),
    ],
)
def test_why_it_ended(translation, piece, reason):
    assert stop(translation, text("x"), piece) == reason


def test_a_call_is_a_reason_whatever_the_engine_says(translation):
    assert stop(translation, call(0, "{}", "f"), FINISH) == ("tool_use", None)


def test_a_refusal_is_a_text_and_a_reason(translation):
    events = told(translation, chunk({"refusal": "I must not"}), FINISH, DONE)
    assert events[2]["delta"] == {"type": "text_delta", "text": "I must not"}
    assert events[-2]["delta"]["stop_reason"] == "refusal"


def test_a_call_without_an_id_gets_one(translation):
    events = told(translation, call(0, "{}", "f", call_id=""), FINISH, DONE)
    assert events[1]["content_block"]["id"] == "toolu_msg_c-1_0"


def test_no_usage_is_none_spent(translation):
    events = told(translation, text("x"), FINISH, DONE)
    assert events[-2]["usage"] == {"input_tokens": 0, "output_tokens": 0}


def test_arguments_that_are_no_object_break_the_stream(translation):
    events = told(translation, call(0, '{"a', "f"), chunk({}, finish="tool_calls"), USAGE, DONE)
    assert "no JSON object" in events[-1]["error"]["message"]
    assert "message_stop" not in [one.get("type") for one in events]


class TestWhole:
    def test_a_message(self, translation):
        message = {
            "content": "Looking.",
            "reasoning_content": "hm",
            "tool_calls": [{"id": "c", "function": {"name": "f", "arguments": '{"a": 1}'}}],
        }
        usage = {"prompt_tokens": 3, "completion_tokens": 2}
        said = whole(translation, message, finish_reason="tool_calls", usage=usage)
        anthropic.types.Message.model_validate(said)
        assert said == {
            "id": "msg_1",
            "type": "message",
            "role": "assistant",
            "model": "engine-model",
            "content": [
                {"type": "thinking", "thinking": "hm", "signature": ""},
                {"type": "text", "text": "Looking."},
                {"type": "tool_use", "id": "c", "name": "f", "input": {"a": 1}},
            ],
            "stop_reason": "tool_use",
            "stop_sequence": None,
            "usage": {
                "input_tokens": 3,
                "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": 0,
                "output_tokens": 2,
            },
        }

    def test_an_empty_one(self, translation):
        said = whole(translation, {"content": ""}, id="", model="")
        assert said["content"] == []
        assert (said["id"], said["model"]) == ("msg_fallback", "m")
        assert said["stop_reason"] == "end_turn"

    def test_arguments_may_come_as_an_object(self, translation):
        calls = [{"id": "c", "function": {"name": "f", "arguments": {"a": 1}}}]
        assert whole(translation, {"tool_calls": calls})["content"][0]["input"] == {"a": 1}

    def test_arguments_that_are_no_object(self, translation):
        calls = [{"id": "c", "function": {"name": "f", "arguments": "[1"}}]
        with pytest.raises(MalformedAnswerError, match="no JSON object"):
            whole(translation, {"tool_calls": calls})
        said = whole(translation, {"tool_calls": calls}, finish_reason="length")
        assert said["content"][0]["input"] == {}
        assert said["stop_reason"] == "max_tokens"

    def test_the_identity_is_for_engines_that_have_none(self, translation):
        assert IDENTITY.id not in whole(translation, {"content": "x"})["id"]
