from __future__ import annotations

import json

import pytest

from gateway.conform.stream import complaints

DONE = b"data: [DONE]\n\n"


def event(*choices, **fields):
    return (
        b"data: " + json.dumps({"id": "x", "choices": list(choices), **fields}).encode() + b"\n\n"
    )


def delta(finish=None, index=0, **fields):
    return {"index": index, "delta": fields, "finish_reason": finish}


ROLE = event(delta(role="assistant", content=""))
TEXT = event(delta(content="Hi"))
END = event(delta("stop"))
USAGE = event(usage={"prompt_tokens": 1})


def test_a_good_stream_gives_no_reason_to_complain():
    assert complaints(ROLE + TEXT + b": ping\n\n" + END + USAGE + DONE) == []
    assert complaints(ROLE + TEXT + END + DONE, usage=False) == []


def test_choices_may_come_in_any_order():
    one, other = [
        [
            event(delta(finish, n, **said))
            for finish, said in ((None, {"role": "assistant"}), ("stop", {}))
        ]
        for n in (0, 1)
    ]
    assert complaints(other[0] + one[0] + one[1] + other[1] + USAGE + DONE, choices=2) == []


def test_completions_have_no_roles():
    text = event({"index": 0, "text": "Hi", "finish_reason": "stop"})
    assert complaints(text + USAGE + DONE) == []


@pytest.mark.parametrize(
    ("raw", "said"),
    [
        (ROLE + TEXT + END + USAGE, "no [DONE]"),
        (ROLE + TEXT + END + USAGE + DONE + TEXT, "follows [DONE]"),
        (ROLE + TEXT + END + USAGE + DONE + DONE, "follows [DONE]"),
        (ROLE + TEXT + USAGE + DONE, "no finish reason"),
        (ROLE + END + TEXT + USAGE + DONE, "after its finish reason"),
        (ROLE + END + END + USAGE + DONE, "after its finish reason"),
        (TEXT + END + USAGE + DONE, "its role"),
        (ROLE + END + DONE, "did not come"),
        (ROLE + USAGE + END + DONE, "follows the one with the usage"),
        (ROLE + END + USAGE + USAGE + DONE, "follows the one with the usage"),
        (ROLE + event(delta("stop"), usage={"prompt_tokens": 1}) + DONE, "did not come"),
        (ROLE + END + event() + USAGE + DONE, "neither choices nor"),
        (ROLE + event(delta(index=1)) + END + USAGE + DONE, "the index 1"),
        (ROLE + event(delta(index=None)) + END + USAGE + DONE, "the index None"),
        (ROLE + b"data: {\n\n" + END + USAGE + DONE, "not JSON"),
        (ROLE + b"data: {}\n\n" + END + USAGE + DONE, "no `choices`"),
        (ROLE + b"data: []\n\n" + END + USAGE + DONE, "no `choices`"),
        (ROLE + b"event: chunk\n" + TEXT + END + USAGE + DONE, "is called 'chunk'"),
        (ROLE + event(delta("stop"), id="y") + USAGE + DONE, "the id changes"),
        (ROLE + END + USAGE + DONE.rstrip(), "blank line"),
        (b"", "no [DONE]"),
    ],
)
def test_what_has_broken_a_client(raw, said):
    assert any(said in one for one in complaints(raw)), complaints(raw)


def test_a_choice_that_never_comes():
    assert "1 of 2 choices came" in complaints(ROLE + END + USAGE + DONE, choices=2)


def test_usage_that_nobody_asked_for():
    assert complaints(ROLE + END + USAGE + DONE, usage=False) == ["the usage came unasked"]
