from __future__ import annotations

import json

import pytest

from backends.base import Endpoint
from gateway.wire.resume.continuation import PREFILLS, Continued, Said, continued_body
from tests.support.upstream import DONE, FINISH, ROLE, chunk, data, text

PREFILL = PREFILLS["vllm"]
CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "temperature": 0.7}


def asked(endpoint, body, said):
    made = continued_body(endpoint, json.dumps(body).encode(), said, PREFILL)
    return None if made is None else json.loads(made)


class TestRequest:
    def test_of_a_chat_has_what_was_said_as_its_last_message(self):
        made = asked(Endpoint.CHAT, CHAT, Said("Once upon", 2))
        assert made == {
            **CHAT,
            "messages": [*CHAT["messages"], {"role": "assistant", "content": "Once upon"}],
            "continue_final_message": True,
            "add_generation_prompt": False,
        }

    def test_of_a_completion_has_it_behind_the_prompt(self):
        body = {"model": "m", "prompt": "One, two", "max_tokens": 10}
        made = asked(Endpoint.COMPLETIONS, body, Said(", three", 3))
        assert made == {"model": "m", "prompt": "One, two, three", "max_tokens": 7}

    def test_white_space_at_the_seam_is_the_engines_to_say(self):
        made = asked(Endpoint.CHAT, CHAT, Said(" Once\n upon \n", 2))
        assert made["messages"][-1]["content"] == " Once\n upon"

    @pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens", "n_predict"])
    def test_a_limit_counts_what_was_said(self, limit):
        assert asked(Endpoint.CHAT, {**CHAT, limit: 10}, Said("x", 4))[limit] == 6
        assert asked(Endpoint.CHAT, {**CHAT, limit: 4}, Said("x", 4)) is None
        assert asked(Endpoint.CHAT, {**CHAT, limit: -1}, Said("x", 4))[limit] == -1
        assert asked(Endpoint.CHAT, {**CHAT, limit: None}, Said("x", 4))[limit] is None

    def test_so_does_the_least_that_is_wanted(self):
        body = {**CHAT, "min_tokens": 5, "max_tokens": 6}
        made = asked(Endpoint.CHAT, body, Said("x", 3))
        assert (made["min_tokens"], made["max_tokens"]) == (2, 3)
        assert asked(Endpoint.CHAT, {**CHAT, "min_tokens": 5}, Said("x", 7))["min_tokens"] == 0

    @pytest.mark.parametrize(
        ("endpoint", "body"),
        [
            (Endpoint.COMPLETIONS, {"prompt": ["a"]}),
            (Endpoint.COMPLETIONS, {"prompt": [1, 2]}),
            (Endpoint.COMPLETIONS, {}),
            (Endpoint.CHAT, {"messages": [{"role": "assistant", "content": "x"}]}),
            (Endpoint.CHAT, {"messages": "x"}),
            (Endpoint.CHAT, []),
        ],
    )
    def test_what_has_no_place_for_it_is_not_asked(self, endpoint, body):
        assert asked(endpoint, body, Said("x", 1)) is None


def values(stream):
    events = [one[6:] for one in stream.split(b"\n\n") if one]
    return [json.loads(one) for one in events if one != b"[DONE]"]


def said_by(stream):
    choices = [choice for one in values(stream) for choice in one["choices"]]
    return [choice.get("delta", choice).get("content") for choice in choices]


def continued(said, *events):
    made = Continued(Said(said, 2))
    return b"".join(map(made.feed, events))


class TestAnswer:
    def test_begins_with_what_was_said(self):
        out = continued("Once upon", ROLE, text(" a"), text(" time"), FINISH, DONE)
        assert said_by(out) == ["", "Once upon", " a", " time", None]
        assert out.endswith(DONE)

    def test_says_it_only_once_there_is_more(self):
        assert said_by(continued("Once", ROLE, chunk({"content": ""}))) == ["", ""]

    def test_may_be_at_its_end(self):
        assert said_by(continued("Once", ROLE, FINISH)) == ["", "Once", None]

    @pytest.mark.parametrize(
        ("said", "rest", "whole"),
        [
            ("Hi \n", [" \n\nYou"], "Hi \n\nYou"),
            ("Hi \n", [" ", "\n", "You"], "Hi \nYou"),
            ("Hi \n", ["You"], "Hi \nYou"),
            ("Hi \n", ["\nYou"], "Hi \n\nYou"),
            ("Hi \n", [" ", " You"], "Hi \n You"),
            ("Hi", [" You"], "Hi You"),
        ],
    )
    def test_white_space_at_the_seam_is_said_once(self, said, rest, whole):
        out = continued(said, ROLE, *map(text, rest), FINISH)
        assert "".join(one or "" for one in said_by(out)) == whole

    def test_counts_as_a_whole(self):
        usage = {
            "prompt_tokens": 12, "completion_tokens": 5, "total_tokens": 17,
            "prompt_tokens_details": {"cached_tokens": 11},
        }  # fmt: skip
        out = continued("Once", ROLE, text("x"), data({"choices": [], "usage": usage}))
        assert values(out)[-1]["usage"] == {
            "prompt_tokens": 10, "completion_tokens": 7, "total_tokens": 17,
            "prompt_tokens_details": {"cached_tokens": 10},
        }  # fmt: skip

    def test_of_a_completion_is_text(self):
        event = data({"id": "x", "choices": [{"index": 0, "text": " two"}]})
        out = values(continued("one,", event))
        assert [one["choices"][0]["text"] for one in out] == ["one,", " two"]
        assert {one["id"] for one in out} == {"x"}

    @pytest.mark.parametrize(
        ("said", "told", "whole"),
        [
            ("one,", [[0, 4], [8]], [[4, 8], [12]]),  # from the beginning of its own answer
            ("one,\n", [[0]], [[4]]),
            ("one,", [[10, 14], [18]], [[10, 14], [18]]),  # from that of the prompt
            ("one,", [[], [0], [1]], [[], [4], [5]]),
            ("one,", [None], [None]),
            ("one,", [["x"]], [["x"]]),
        ],
    )
    def test_of_a_completion_has_offsets_into_the_whole_text(self, said, told, whole):
        events = [
            data({"choices": [{"index": 0, "text": " x", "logprobs": {"text_offset": offsets}}]})
            for offsets in told
        ]
        out = values(continued(said, *events))
        assert [one["choices"][0]["logprobs"]["text_offset"] for one in out[1:]] == whole

    def test_says_nothing_anew_of_white_space_that_was_there(self):
        entries = [{"token": " ", "logprob": -1}]
        choice = {"index": 0, "delta": {"content": " "}, "logprobs": {"content": entries}}
        out = values(continued("one ", data({"choices": [choice]}), text("two")))
        assert out[1]["choices"][0]["logprobs"] is None

    def test_comes_in_any_pieces(self):
        whole = b"".join((ROLE, text(" a"), FINISH, DONE))
        one_by_one = continued("Once", *[whole[at : at + 1] for at in range(len(whole))])
        assert one_by_one == continued("Once", whole)

    def test_what_is_broken_is_the_watchs_to_find(self):
        assert continued("Once", b"data: {broken\n\n") == b"data: {broken\n\n"
        assert continued("Once", b'error: {"code":500}\n\n').startswith(b"event: error\n")
        made = Continued(Said("Once", 1))
        made.feed(b'data: {"choices":[{"ind')
        assert made.end() == b'data: {"choices":[{"ind'
