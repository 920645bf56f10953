from __future__ import annotations

import json
from random import Random

import pytest

from gateway.wire.resume.choices import ChoicesTranscript
from gateway.wire.resume.transcript import DivergedError

DONE = b"data: [DONE]\n\n"
TALE = "Once upon a time 🦊 there was a fox.\n\nIt was née\u0301 clever."


def chunk(delta=None, finish=None, *, of="A", **more):
    choice = {"index": 0, "delta": delta or {}, "logprobs": None, "finish_reason": finish}
    head = {"id": f"chatcmpl-{of}", "created": ord(of), "model": f"model {of}"}
    return event({**head, "system_fingerprint": f"print {of}", "choices": [choice], **more})


def event(value):
    return b"data: %s\n\n" % json.dumps(value).encode()


def usage(of="A", prompt=3, completion=9):
    told = {"prompt_tokens": prompt, "completion_tokens": completion}
    head = {"id": f"chatcmpl-{of}", "created": ord(of), "model": f"model {of}"}
    return event({**head, "choices": [], "usage": told})


def cut(text, rng):
    """`text` in pieces of up to 5 characters."""
    pieces = []
    while text:
        size = rng.randint(1, 5)
        pieces.append(text[:size])
        text = text[size:]
    return pieces


def answer(of, pieces, *, field="content", finish="stop"):
    role = chunk({"role": "assistant", "content": ""}, of=of)
    said = [chunk({field: piece}, of=of) for piece in pieces]
    return [role, *said, chunk({}, finish, of=of), usage(of), DONE]


def after(*events):
    """A transcript of what has gone out."""
    transcript = ChoicesTranscript()
    for one in events:
        transcript.add(one)
    return transcript


def replayed(transcript, events):
    splice = transcript.splice()
    return [out for one in events if (out := splice.feed(one))]


def values(events):
    return [json.loads(one[6:]) for one in events if b"[DONE]" not in one]


def text_of(events, field="content"):
    deltas = [choice["delta"] for one in values(events) for choice in one["choices"]]
    return "".join(delta.get(field) or "" for delta in deltas)


def call(arguments="", number=0, **start):
    return {
        "index": number,
        **start,
        "function": {**start.pop("function", {}), "arguments": arguments},
    }


@pytest.mark.parametrize("seed", range(40))
def test_wherever_it_breaks_and_however_it_is_cut_the_whole_is_the_same(seed):
    rng = Random(seed)
    first = answer("A", cut(TALE, rng))
    had = first[: rng.randint(2, len(first) - 4)]
    out = had + replayed(after(*had), answer("B", cut(TALE, rng)))
    assert text_of(out) == TALE
    assert out[-1] == DONE
    assert {one["id"] for one in values(out)} == {"chatcmpl-A"}
    assert {(one["created"], one["model"]) for one in values(out)} == {(65, "model A")}
    assert [one["usage"] for one in values(out) if "usage" in one] == [
        {"prompt_tokens": 3, "completion_tokens": 9}
    ]
    roles = [choice["delta"].get("role") for one in values(out) for choice in one["choices"]]
    assert roles.count("assistant") == 1


@pytest.mark.parametrize("seed", range(20))
def test_it_may_break_again_and_again(seed):
    rng = Random(seed)
    out = []
    for of in "ABCD":
        events = (
            replayed(after(*out), answer(of, cut(TALE, rng))) if out else answer(of, cut(TALE, rng))
        )
        out += events[: rng.randint(1, max(1, len(events) - 4))]
    out += replayed(after(*out), answer("E", cut(TALE, rng)))
    assert text_of(out) == TALE
    assert {one["id"] for one in values(out)} == {"chatcmpl-A"}


def test_thinking_is_compared_as_well():
    had = [chunk({"reasoning_content": "Hm, a"}), chunk({"reasoning_content": " fox?"})]
    again = [
        chunk({"reasoning_content": "Hm, a fo"}, of="B"),
        chunk({"reasoning_content": "x? Yes."}, of="B"),
        chunk({"content": "A fox."}, of="B"),
        chunk({}, "stop", of="B"),
        DONE,
    ]
    out = had + replayed(after(*had), again)
    assert text_of(out, "reasoning_content") == "Hm, a fox? Yes."
    assert text_of(out) == "A fox."


def test_a_call_of_a_tool_goes_on_with_its_id():
    start = {"id": "call_1", "type": "function", "function": {"name": "weather"}}
    had = [chunk({"tool_calls": [call("", **start)]}), chunk({"tool_calls": [call('{"ci')]})]
    other = {**start, "id": "call_2", "function": {"name": "weather"}}
    again = [
        chunk({"tool_calls": [call('{"city":', **other)]}, of="B"),
        chunk({"tool_calls": [call(' "Rome"}')]}, of="B"),
        chunk({"tool_calls": [call("{}", 1, id="c", function={"name": "time"})]}, of="B"),
        chunk({}, "tool_calls", of="B"),
        DONE,
    ]
    out = replayed(after(*had), again)
    first, second, third = (one["choices"][0]["delta"]["tool_calls"][0] for one in values(out)[:3])
    assert first == {"index": 0, "function": {"arguments": 'ty":'}}
    assert second["function"]["arguments"] == ' "Rome"}'
    assert (third["id"], third["function"]["name"]) == ("c", "time")
    assert values(out)[-1]["choices"][0]["finish_reason"] == "tool_calls"


@pytest.mark.parametrize(
    "again",
    [
        [chunk({"content": "Once upon b"})],
        [chunk({"content": "O"}), chunk({"content": "h"})],
        [chunk({"content": "Once"}), chunk({}, "stop")],
        [chunk({"content": "Once"}), DONE],
        [chunk({"reasoning_content": "Well"})],
        [chunk({"tool_calls": [call("{}", id="c", function={"name": "time"})]})],
    ],
)
def test_another_answer_is_none(again):
    with pytest.raises(DivergedError):
        replayed(after(chunk({"content": "Once upon a"})), again)


def test_a_call_of_another_tool_is_another_answer():
    had = chunk({"tool_calls": [call("", id="a", function={"name": "weather"})]})
    with pytest.raises(DivergedError, match="another tool"):
        replayed(after(had), [chunk({"tool_calls": [call("", id="b", function={"name": "x"})]})])


def test_the_text_of_a_completion_too():
    def completion(text, finish=None):
        return event({"id": "x", "choices": [{"index": 0, "text": text, "finish_reason": finish}]})

    out = replayed(after(completion("one, t")), [completion("one, two"), completion("", "stop")])
    assert [one["choices"][0]["text"] for one in values(out)] == ["wo", ""]


def test_log_probabilities_stay_with_their_tokens():
    def tokens(*words):
        entries = {"content": [{"token": word, "logprob": -0.1} for word in words]}
        delta = {"content": "".join(words)}
        return event({"choices": [{"index": 0, "delta": delta, "logprobs": entries}]})

    out = replayed(after(tokens("a", " b")), [tokens("a", " b", " c", " d"), tokens(" e")])
    kept = [
        [entry["token"] for entry in one["choices"][0]["logprobs"]["content"]]
        for one in values(out)
    ]
    assert kept == [[" c", " d"], [" e"]]


def test_token_ids_come_once_however_an_engine_puts_them_together():
    def tokens(said, *ids):
        return event({"choices": [{"index": 0, "delta": {"content": said}, "token_ids": ids}]})

    had = [tokens("a", 1), tokens(" b", 2), tokens(" c", 3)]
    out = replayed(after(*had), [tokens("a b", 1, 2), tokens(" c d", 3, 4), tokens(" e", 5)])
    assert [one["choices"][0]["token_ids"] for one in values(out)] == [[4], [5]]
    assert text_of(had + out) == "a b c d e"


def test_usage_in_every_event_is_not_the_last_word():
    told = {"usage": {"prompt_tokens": 3, "completion_tokens": 1}}
    had = chunk({"content": "a"}, **told)
    out = replayed(after(had), [had, chunk({"content": "b"}, **told), usage()])
    assert [one["usage"]["completion_tokens"] for one in values(out)] == [1, 9]


def test_repeated_work_is_counted():
    transcript = after(*[chunk({"content": piece}) for piece in ("a", "b", "c")])
    splice = transcript.splice()
    for piece in ("a", "bc", "d"):
        splice.feed(chunk({"content": piece}, of="B"))
    assert splice.repeated == 2
    assert splice.caught_up


class TestPlainText:
    def test_is_what_was_said(self):
        assert (
            after(
                chunk({"role": "assistant", "content": "On"}), chunk({"content": "ce"})
            ).plain_text
            == "Once"
        )

    @pytest.mark.parametrize(
        "delta",
        [
            {"reasoning_content": "Hm"},
            {"tool_calls": [call("{}", id="c", function={"name": "time"})]},
            {"function_call": {"name": "time"}},
            {"audio": {"id": "x"}},
            {"content": [{"type": "text", "text": "x"}]},
            {"refusal": "no"},
        ],
    )
    def test_is_nothing_where_there_is_more(self, delta):
        assert after(chunk({"content": "x"}), chunk(delta)).plain_text is None

    def test_an_engine_may_send_what_it_likes(self):
        odd = [{"choices": [None, 3]}, {"choices": "x"}, [], 7, {"choices": [{"delta": None}]}]
        assert after(chunk({"content": "x"}), *map(event, odd)).plain_text == "x"


class TestEnding:
    def test_is_unknown_before_the_reason(self):
        assert after(chunk({"content": "x"})).ending is None

    def test_is_done_after_it(self):
        assert after(chunk({"content": "x"}), chunk({}, "stop")).ending == DONE

    def test_is_nothing_after_that(self):
        assert after(chunk({"content": "x"}), chunk({}, "stop"), DONE).ending == b""


def test_the_ids_of_tokens_are_counted_where_there_is_nothing_else_than_text():
    def tokens(said, *ids):
        choice = {"index": 0, "delta": {"content": said}, "finish_reason": None, "token_ids": ids}
        return event({"id": "chatcmpl-A", "choices": [choice]})

    had = [tokens("a", 1), tokens(" b", 2), tokens(" c", 3)]
    out = replayed(after(*had), [tokens("a b c d", 1, 2, 3, 4)])
    assert [one["choices"][0]["token_ids"] for one in values(out)] == [[4]]


def test_who_goes_on_from_the_text_tells_only_new_tokens():
    def tokens(said, *ids):
        return event({"choices": [{"index": 0, "delta": {"content": said}, "token_ids": ids}]})

    splice = after(tokens("a", 1), tokens(" b", 2)).splice(continued=True)
    assert splice.feed(chunk({"content": "a b"})) == b""
    (new,) = values([splice.feed(tokens(" c", 7))])
    assert new["choices"][0]["token_ids"] == [7]


def test_who_goes_on_from_the_text_does_not_think_behind_it():
    splice = after(chunk({"content": "A fox"})).splice(continued=True)
    assert splice.feed(chunk({"content": "A fox"})) == b""
    with pytest.raises(DivergedError, match="reasoning_content"):
        splice.feed(chunk({"reasoning_content": " was there."}))


def test_log_probabilities_of_a_completion_stay_with_their_tokens():
    def tokens(*words):
        told = {
            "tokens": list(words),
            "token_logprobs": [-0.5] * len(words),
            "text_offset": list(range(len(words))),
            "top_logprobs": None,
        }
        return event({"choices": [{"index": 0, "text": "".join(words), "logprobs": told}]})

    out = replayed(after(tokens("a", " b")), [tokens("a", " b", " c", " d"), tokens(" e")])
    told = [one["choices"][0]["logprobs"] for one in values(out)]
    assert [one["tokens"] for one in told] == [[" c", " d"], [" e"]]
    assert told[0]["text_offset"] == [2, 3]
    assert told[0]["token_logprobs"] == [-0.5, -0.5]


def test_a_call_that_is_named_in_each_event_keeps_its_id():
    start = {"type": "function", "function": {"name": "weather"}}
    had = chunk({"tool_calls": [call('{"ci', id="call_1", **start)]})
    again = [
        chunk({"tool_calls": [call('{"city":', id="call_2", **start)]}),
        chunk({"tool_calls": [call(' "Rome"}', id="call_2", type="function")]}),
    ]
    calls = [
        one["choices"][0]["delta"]["tool_calls"][0] for one in values(replayed(after(had), again))
    ]
    assert [one["function"]["arguments"] for one in calls] == ['ty":', ' "Rome"}']
    assert not any("id" in one or "type" in one for one in calls)


STRANGE = {
    "a function, as they were called once": {"function_call": {"name": "f", "arguments": "{"}},
    "a sound": {"audio": {"data": "aGk="}},
    "content in parts": {"content": [{"type": "text", "text": "a"}]},
    "arguments that are an object": {
        "tool_calls": [{"index": 0, "function": {"name": "f", "arguments": {"a": 1}}}]
    },
    "a number that is a list": {"tool_calls": [{"index": [], "function": {"name": "f"}}]},
}


@pytest.mark.parametrize("delta", STRANGE.values(), ids=STRANGE)
def test_what_cannot_be_compared_is_known_as_that(delta):
    transcript = after(chunk({"role": "assistant"}), chunk(delta), chunk({"content": "a"}))
    assert transcript.plain_text is None
    assert transcript.incomparable
    with pytest.raises(DivergedError, match="compared"):
        replayed(after(chunk({"content": "a"})), [chunk(delta)])


@pytest.mark.parametrize("place", ["chunk", "choice"])
def test_what_is_told_of_the_prompt_comes_once(place):
    def told(said, ids):
        choice = {"index": 0, "text": said}
        (choice if place == "choice" else (whole := {})).update(prompt_token_ids=ids)
        return event({"choices": [choice], **(whole if place == "chunk" else {})})

    (one,) = values(replayed(after(told("a", [1, 2])), [told("a b", [1, 2, 3])]))
    assert "prompt_token_ids" not in one
    assert one["choices"] == [{"index": 0, "text": " b"}]
