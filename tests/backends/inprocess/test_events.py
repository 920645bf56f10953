import json

import msgspec
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk

from backends.assemble.choices import ChoicesAssembler
from backends.inprocess.events import DONE, ChatWriter, CompletionWriter, Usage
from backends.inprocess.logprobs import TokenLogprobs
from backends.inprocess.text import Delta, Finish
from backends.inprocess.tool_calls import ToolCall

PIECES = {1: b"a", 2: b"\xf0\x9f", 3: b"\x98\x80", 4: b" b"}
HEAD = {"reply_id": "1", "created": 7, "model": 'a "quoted" name', "piece": PIECES.__getitem__}


def chat():
    return ChatWriter(**HEAD, call_id=lambda: "call_1")


def chunks(raw):
    """Every event, read by the SDK's own types, which refuse what they do not know."""
    events = raw.removesuffix(b"\n\n").split(b"\n\n")
    data = [event.removeprefix(b"data: ") for event in events]
    return [ChatCompletionChunk.model_validate_json(item, strict=True) for item in data]


class TestChat:
    def test_a_stream_opens_with_the_role_of_each_choice(self):
        first, second = chunks(chat().opening(2))
        assert (first.id, first.created, first.model) == ("chatcmpl-1", 7, 'a "quoted" name')
        assert first.choices[0].delta.role == second.choices[0].delta.role == "assistant"
        assert [first.choices[0].index, second.choices[0].index] == [0, 1]

    def test_text_that_json_must_escape(self):
        text = 'a "b"\n\n\\ \u2028 é 😀 \x00'
        (chunk,) = chunks(chat().delta(Delta(1, text)))
        assert chunk.choices[0].delta.content == text
        assert chunk.choices[0].finish_reason is None

    def test_the_last_text_and_the_reason_are_two_events(self):
        text, end = chunks(chat().delta(Delta(0, "end", (), Finish.LENGTH, 9)))
        assert text.choices[0].delta.content == "end"
        assert end.choices[0].finish_reason == "length"
        assert end.choices[0].delta.content is None

    def test_which_stop_string_it_was_is_told_as_vllm_tells_it(self):
        last = Delta(0, "", (), Finish.STOP, 9, stop_reason='"END"')
        (chunk,) = chunks(chat().delta(last))
        assert chunk.choices[0].finish_reason == "stop"
        assert chunk.choices[0].stop_reason == '"END"'
        whole = json.loads(chat().whole([[last]], Usage(3, 4)))
        assert whole["choices"][0]["stop_reason"] == '"END"'

    def test_a_tool_call(self):
        (chunk,) = chunks(chat().delta(Delta(0, "", (ToolCall(1, "f", '{"x": 1}'),))))
        (call,) = chunk.choices[0].delta.tool_calls
        assert (call.index, call.id, call.type) == (1, "call_1", "function")
        assert (call.function.name, call.function.arguments) == ("f", '{"x": 1}')

    def test_a_tool_call_in_pieces_has_its_name_and_id_once(self):
        pieces = (ToolCall(0, "f", ""), ToolCall(0, "", '{"x"'), ToolCall(0, "", ": 1}"))
        first, *more = (
            chunk.choices[0].delta.tool_calls[0]
            for chunk in chunks(chat().delta(Delta(0, "", pieces)))
        )
        assert (first.id, first.type, first.function.name) == ("call_1", "function", "f")
        assert first.function.arguments == ""
        assert [call.function.arguments for call in more] == ['{"x"', ": 1}"]
        assert all(call.id is None and call.function.name is None for call in more)

    def test_thinking_comes_before_text(self):
        thought, text = chunks(chat().delta(Delta(0, "Hi", reasoning="Hm")))
        assert thought.choices[0].delta.reasoning_content == "Hm"
        assert text.choices[0].delta.content == "Hi"

    def test_a_stream_put_together_is_the_whole_answer(self):
        pieces = (ToolCall(0, "f", ""), ToolCall(0, "", "{"), ToolCall(0, "", "}"))
        streamed = [
            Delta(0, reasoning="Hm, "),
            Delta(0, "Hi", reasoning="so."),
            *(Delta(0, "", (piece,)) for piece in pieces),
            Delta(0, "", (), Finish.TOOL_CALLS, 9, reasoning_tokens=2),
        ]
        whole = [
            Delta(0, "Hi", (ToolCall(0, "f", "{}"),), reasoning="Hm, so."),
            streamed[-1],
        ]
        usage = Usage(3, 9, 2)
        stream = ChoicesAssembler()
        stream.feed(chat().opening(1) + b"".join(map(chat().delta, streamed)))
        stream.feed(chat().usage(usage) + DONE)
        together = json.loads(msgspec.json.encode(stream.answer()))
        assert together == json.loads(chat().whole([whole], usage))

    def test_tokens_of_thinking_are_told_where_thinking_is_known(self):
        (chunk,) = chunks(chat().usage(Usage(3, 4, 0)))
        assert chunk.usage.completion_tokens_details.reasoning_tokens == 0
        assert "completion_tokens_details" not in Usage(3, 4).body()

    def test_usage_has_no_choices(self):
        (chunk,) = chunks(chat().usage(Usage(3, 4)))
        assert chunk.choices == []
        assert chunk.usage.total_tokens == 7

    def test_a_delta_that_says_nothing_is_no_event(self):
        assert chat().delta(Delta(0, tokens=3)) == b""

    def test_a_whole_answer(self):
        answers = [
            [Delta(0, "Hel"), Delta(0, "lo", (), Finish.STOP, 3)],
            [Delta(1, "", (ToolCall(0, "f", "{}"),), Finish.TOOL_CALLS, 5)],
        ]
        body = chat().whole(answers, Usage(10, 8))
        answer = ChatCompletion.model_validate_json(body, strict=True)
        said, called = answer.choices
        assert (said.message.content, said.finish_reason) == ("Hello", "stop")
        assert (called.message.content, called.finish_reason) == (None, "tool_calls")
        assert called.message.tool_calls[0].function.name == "f"
        assert answer.usage.total_tokens == 18


class TestCompletion:
    def test_a_stream(self):
        writer = CompletionWriter(**HEAD)
        raw = writer.opening(1) + writer.delta(Delta(0, "a")) + writer.delta(Delta(0, tokens=2))
        raw += writer.delta(Delta(0, "b", (), Finish.STOP, 3)) + writer.usage(Usage(1, 3))
        events = [
            event.removeprefix(b"data: ") for event in raw.removesuffix(b"\n\n").split(b"\n\n")
        ]
        # The SDK's type for it does not know that the reason is null until the end.
        first = json.loads(events[0])
        assert (first["id"], first["choices"][0]["text"]) == ("cmpl-1", "a")
        assert first["choices"][0]["finish_reason"] is None
        last, usage = (Completion.model_validate_json(item, strict=True) for item in events[1:])
        assert (last.choices[0].text, last.choices[0].finish_reason) == ("b", "stop")
        assert usage.choices == []

    def test_a_whole_answer(self):
        body = CompletionWriter(**HEAD).whole([[Delta(0, "a", (), Finish.LENGTH, 1)]], Usage(1, 1))
        answer = Completion.model_validate_json(body, strict=True)
        assert (answer.choices[0].text, answer.choices[0].finish_reason) == ("a", "length")


LOGPROBS = (
    TokenLogprobs(1, -0.5, ((1, -0.5), (4, -1.5)), 0),
    TokenLogprobs(2, -1.0, ((4, float("-inf")), (3, -2.0)), 1),
)


class TestLogprobs:
    def test_of_a_chat_have_each_tokens_bytes(self):
        (chunk,) = chunks(chat().delta(Delta(0, "a", logprobs=LOGPROBS)))
        first, second = chunk.choices[0].logprobs.content
        assert (first.token, first.logprob, first.bytes) == ("a", -0.5, [97])
        assert [(top.token, top.logprob) for top in first.top_logprobs] == [
            ("a", -0.5),
            (" b", -1.5),
        ]
        assert (second.token, second.bytes) == ("\ufffd", [0xF0, 0x9F])
        assert second.top_logprobs[0].logprob == -9999.0

    def test_stand_in_the_first_event_of_a_delta_and_in_no_other(self):
        call = ToolCall(0, "f", "{}")
        events = chunks(chat().delta(Delta(0, "a", (call,), Finish.STOP, 3, logprobs=LOGPROBS)))
        assert [bool(event.choices[0].logprobs) for event in events] == [True, False, False]

    def test_that_come_with_nothing_but_the_end_are_told(self):
        (event,) = chunks(chat().delta(Delta(0, "", (), Finish.LENGTH, 3, logprobs=LOGPROBS)))
        assert len(event.choices[0].logprobs.content) == 2

    def test_of_a_whole_chat_are_those_of_all_deltas(self):
        deltas = [
            Delta(0, "a", logprobs=LOGPROBS[:1]),
            Delta(0, "b", (), Finish.STOP, 2, logprobs=LOGPROBS[1:]),
        ]
        body = ChatCompletion.model_validate_json(chat().whole([deltas], Usage(1, 2)), strict=True)
        assert [entry.token for entry in body.choices[0].logprobs.content] == ["a", "\ufffd"]

    def test_of_a_completion_name_tokens_and_places(self):
        delta = Delta(0, "a", (), Finish.LENGTH, 2, logprobs=LOGPROBS)
        body = Completion.model_validate_json(
            CompletionWriter(**HEAD).whole([[delta]], Usage(1, 2))
        )
        found = body.choices[0].logprobs
        assert found.tokens == ["a", r"bytes:\xf0\x9f"]
        assert found.token_logprobs == [-0.5, -1.0]
        assert found.text_offset == [0, 1]
        assert found.top_logprobs[0] == {"a": -0.5, " b": -1.5}
        assert set(found.top_logprobs[1]) == {" b", r"bytes:\x98\x80", r"bytes:\xf0\x9f"}
