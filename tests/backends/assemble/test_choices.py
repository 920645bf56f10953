from __future__ import annotations

import json

import msgspec
import pytest

from backends.assemble import BrokenStreamError, EngineSaysError
from backends.assemble.choices import ChoicesAssembler

HEAD = {"created": 1, "id": "chatcmpl-1", "model": "m", "system_fingerprint": "b0"}
USAGE = {
    "completion_tokens": 3,
    "prompt_tokens": 15,
    "total_tokens": 18,
    "prompt_tokens_details": {"cached_tokens": 14},
}


def event(data) -> bytes:
    return b"data: " + (data if isinstance(data, bytes) else json.dumps(data).encode()) + b"\n\n"


def chunk(delta, index=0, finish=None, **fields) -> bytes:
    choice = {"finish_reason": finish, "index": index, "delta": delta}
    return event({"choices": [choice], **HEAD, "object": "chat.completion.chunk", **fields})


def text(piece, index=0, finish=None, logprobs=None, **fields) -> bytes:
    choice = {"text": piece, "index": index, "logprobs": logprobs, "finish_reason": finish}
    return event({"choices": [choice], **HEAD, "object": "text_completion", **fields})


def closing(**fields) -> bytes:
    return event({"choices": [], **HEAD, "object": "chat.completion.chunk", **fields})


BEGIN = chunk({"role": "assistant", "content": None})
END = chunk({}, finish="stop")
DONE = event(b"[DONE]")


def assemble(*blocks, expected=1):
    assembler = ChoicesAssembler(expected)
    for block in blocks:
        assembler.feed(block)
    return json.loads(msgspec.json.encode(assembler.answer()))


# -- what is no answer ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "blocks",
    [
        [],
        [DONE],
        [BEGIN, chunk({"content": "Hi"})],
        [BEGIN, chunk({"content": "Hi"}), DONE],
        [BEGIN, END, chunk({"content": "x"}, index=1), DONE],
    ],
)
def test_a_stream_without_its_end_is_no_answer(blocks):
    with pytest.raises(BrokenStreamError, match="without a finish reason"):
        assemble(*blocks)


def test_without_a_last_event_all_choices_asked_for_must_have_come():
    with pytest.raises(BrokenStreamError):
        assemble(BEGIN, END, expected=2)
    assert len(assemble(BEGIN, END, DONE, expected=2)["choices"]) == 1
    assert assemble(BEGIN, END)["choices"][0]["finish_reason"] == "stop"


@pytest.mark.parametrize(
    "data",
    [
        b'{"choices":[{"index":0,"del',
        b"[]",
        b"\xff",
        b'{"choices":3}',
        b'{"choices":[{"index":"x"}]}',
        b'{"choices":[{"delta":{"content":[{"type":"text","text":"x"}]}}]}',
        b'{"choices":[{"delta":{"tool_calls":["x"]}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"function":"x"}]}}]}',
        b'{"choices":[{"delta":{"tool_calls":[{"function":{"arguments":{}}}]}}]}',
        b'{"choices":[{"delta":{"function_call":[]}}]}',
        b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    ],
)
def test_a_torn_event_is_no_answer(data):
    with pytest.raises(BrokenStreamError, match="malformed"):
        assemble(BEGIN, event(data))


@pytest.mark.parametrize(
    "block",
    [
        b'data: {"error":{"code":500,"message":"out of memory","type":"server_error"}}\n\n',
        b'error: {"code":500,"message":"out of memory","type":"server_error"}\n\n',
        b'event: error\ndata: {"code":500,"message":"out of memory","type":"server_error"}\n\n',
    ],
)
def test_an_error_inside_the_stream_is_told(block):
    with pytest.raises(EngineSaysError, match="out of memory") as caught:
        assemble(BEGIN, block)
    assert (caught.value.said.status, caught.value.said.type) == (500, "server_error")


def test_an_answer_is_bounded(monkeypatch):
    monkeypatch.setattr("backends.assemble.assembler.MAX_ANSWER", 100)
    with pytest.raises(BrokenStreamError, match="longer than"):
        assemble(BEGIN, *[chunk({"content": "x" * 10})] * 11)


# -- chat ----------------------------------------------------------------------------------------


def test_text_comes_together_with_usage_and_unknown_fields():
    answer = assemble(
        BEGIN,
        chunk({"content": "Grüße"}, error=None, usage=None, mood="first"),
        chunk({"content": ", 😀"}, mood="last") + END,
        closing(usage=USAGE, timings={"predicted_n": 3}),
        DONE,
    )
    assert answer == {
        "choices": [
            {
                "finish_reason": "stop",
                "index": 0,
                "message": {"role": "assistant", "content": "Grüße, 😀"},
            }
        ],
        **HEAD,
        "object": "chat.completion",
        "mood": "last",
        "usage": USAGE,
        "timings": {"predicted_n": 3},
    }


def test_a_silent_answer_has_empty_content():
    assert assemble(BEGIN, END, DONE)["choices"][0]["message"] == {
        "role": "assistant",
        "content": "",
    }


def test_thoughts_are_apart_from_content():
    answer = assemble(
        BEGIN,
        chunk({"reasoning_content": "hm"}),
        chunk({"reasoning_content": "m"}),
        chunk({"content": "Yes"}),
        END,
    )
    message = answer["choices"][0]["message"]
    assert (message["reasoning_content"], message["content"]) == ("hmm", "Yes")


def test_calls_of_tools_come_together_by_index():
    def call(index, **fields):
        return chunk({"tool_calls": [{"index": index, **fields}]})

    answer = assemble(
        BEGIN,
        call(0, id="a", type="function", function={"name": "weather", "arguments": "{"}),
        call(0, function={"arguments": '"city":'}),
        call(1, id="b", type="function", function={"name": "time"}),
        call(0, function={"arguments": '"Rome"}'}),
        chunk({}, finish="tool_calls"),
        DONE,
    )
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    assert answer["choices"][0]["message"]["tool_calls"] == [
        {
            "type": "function",
            "function": {"name": "weather", "arguments": '{"city":"Rome"}'},
            "id": "a",
        },
        {"type": "function", "function": {"name": "time", "arguments": ""}, "id": "b"},
    ]


def test_the_older_function_call_comes_together():
    answer = assemble(
        chunk({"function_call": {"name": "f", "arguments": "{"}}),
        chunk({"function_call": {"arguments": "}"}}),
        chunk({}, finish="function_call"),
    )
    call = answer["choices"][0]["message"]["function_call"]
    assert call == {"name": "f", "arguments": "{}"}


def test_log_probabilities_are_joined_to_the_last_digit():
    number = b"-0.00028035993454977870000"
    pieces = [
        event(
            b'{"choices":[{"index":0,"finish_reason":null,"delta":{"content":"a"},'
            b'"logprobs":{"content":[{"token":"a","logprob":%b}],"refusal":null}}]}' % number
        )
    ] * 2
    assembler = ChoicesAssembler()
    for block in (BEGIN, *pieces, END):
        assembler.feed(block)
    whole = msgspec.json.encode(assembler.answer())
    assert whole.count(number) == 2
    logprobs = json.loads(whole)["choices"][0]["logprobs"]
    assert [one["token"] for one in logprobs["content"]] == ["a", "a"]
    assert logprobs["refusal"] is None


def test_choices_are_told_apart_and_the_first_ones_usage_counts():
    second = {**USAGE, "completion_tokens": 9}
    answer = assemble(
        chunk({"content": "b"}, index=1),
        chunk({"content": "a"}),
        chunk({}, finish="stop"),
        closing(usage=USAGE),
        chunk({"content": "B"}, index=1),
        chunk({}, index=1, finish="length"),
        closing(usage=second),
        DONE,
        expected=2,
    )
    told = [(one["index"], one["message"]["content"]) for one in answer["choices"]]
    assert told == [(0, "a"), (1, "bB")]
    assert [one["finish_reason"] for one in answer["choices"]] == ["stop", "length"]
    assert answer["usage"] == USAGE


def test_one_usage_for_all_choices_counts():
    ends = chunk({}, finish="stop", usage=None) + chunk({}, index=1, finish="stop", usage=None)
    assert assemble(ends, closing(usage=USAGE), DONE, expected=2)["usage"] == USAGE


# -- completions ---------------------------------------------------------------------------------


def test_a_completion_comes_together():
    def lp(token):
        return {"content": [{"token": token, "logprob": -0.5}]}

    answer = assemble(
        text(" a", logprobs=lp(" a")),
        text(" time", logprobs=lp(" time")),
        text("", finish="length", usage=USAGE),
        DONE,
    )
    assert answer["object"] == "text_completion"
    assert answer["usage"] == USAGE
    (choice,) = answer["choices"]
    assert (choice["text"], choice["finish_reason"]) == (" a time", "length")
    assert [one["token"] for one in choice["logprobs"]["content"]] == [" a", " time"]


def test_log_probabilities_that_were_not_asked_for_are_null():
    (choice,) = assemble(text("x"), text("", finish="stop"))["choices"]
    assert choice == {"text": "x", "index": 0, "logprobs": None, "finish_reason": "stop"}


def test_the_older_log_probabilities_are_joined_list_by_list():
    first = {"tokens": ["a"], "token_logprobs": [-1], "text_offset": [0]}
    second = {"tokens": ["b"], "token_logprobs": [-2], "text_offset": [1]}
    answer = assemble(text("a", logprobs=first), text("b", logprobs=second, finish="stop"))
    assert answer["choices"][0]["logprobs"] == {
        "tokens": ["a", "b"],
        "token_logprobs": [-1, -2],
        "text_offset": [0, 1],
    }
