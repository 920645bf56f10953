from __future__ import annotations

import pytest

from gateway.wire.json_answer import MalformedAnswerError, read_answer


def test_what_is_told_of_it_is_read():
    answer = read_answer(b'{"model":"m","usage":{"prompt_tokens":3},"x":[{}]}')
    assert (answer.model, answer.usage.prompt) == ("m", 3)


@pytest.mark.parametrize("reason", ["abort", "error"])
def test_an_answer_that_the_engine_gave_up_is_broken_off(reason):
    body = b'{"choices":[{"finish_reason":"stop"},{"finish_reason":"%s"}]}' % reason.encode()
    assert read_answer(body).broken_off


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"<html>", b'{"model":"\xff"}', b"[" * 100_000])
def test_what_is_no_object_is_malformed(body):
    with pytest.raises(MalformedAnswerError):
        read_answer(body)
