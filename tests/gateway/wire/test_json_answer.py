from __future__ import annotations

import json

import pytest

from gateway.wire.json_answer import MalformedAnswerError, read_answer


def test_what_is_told_of_it_is_read():
    answer = read_answer(b'{"model":"m","usage":{"prompt_tokens":3},"x":[{}]}')
    assert (answer.model, answer.usage.prompt) == ("m", 3)


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_the_engine_gave_up_is_broken_off(reason):
    body = b'{"choices":[{"finish_reason":"stop"},{"finish_reason":"%s"}]}' % reason.encode()
    assert read_answer(body).broken_off


@pytest.mark.parametrize(
    "body", [b"[]", b'[{"score":0.5}]', b"7", b'{"usage":{"prompt_tokens":[]}}']
)
def test_any_json_is_an_answer(body):
    answer = read_answer(body)
    assert (answer.model, answer.error, answer.broken_off) == (None, None, False)


@pytest.mark.parametrize("error", ["no", {"message": "no"}])
def test_an_error_is_seen_whatever_the_status_was(error):
    assert read_answer(json.dumps({"error": error}).encode()).error == error


@pytest.mark.parametrize("body", [b"", b"{", b"<html>", b'{"model":"\xff"}', b"[" * 100_000])
def test_what_is_no_json_is_malformed(body):
    with pytest.raises(MalformedAnswerError):
        read_answer(body)
