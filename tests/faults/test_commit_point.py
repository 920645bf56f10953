"""The commit point, beyond what the table says of it: whose wait is whose, and what is whole."""

from __future__ import annotations

import pytest

from tests.support.answers import error_of, events, is_done, said
from tests.support.inprocess import routing, serving
from tests.support.upstream import (
    CHAT,
    DONE,
    FINISH,
    ROLE,
    STORY,
    STREAM_HEAD,
    Close,
    Drip,
    Pause,
    Send,
    Silence,
    chunk,
    data,
    scripted,
    stream,
    text,
)

GOOD = stream(*STORY)


class TestFirstToken:
    async def test_who_was_silent_is_not_asked_the_same_again(self, tmp_path):
        model = {"timeouts": {"first_token": "100ms"}, "retry": {"attempts": 5}}
        async with (
            scripted((Silence(),)) as one,
            scripted((Silence(),)) as other,
            serving(tmp_path, routing(one, other, model=model)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "upstream_timeout"
        assert "0.1 s" in answer.json()["error"]["message"]
        assert (len(one.seen), len(other.seen)) == (1, 1)

    @pytest.mark.slow
    async def test_an_answer_in_one_piece_has_no_first_token(self, tmp_path):
        model = {"timeouts": {"first_token": "100ms"}}
        async with (
            scripted((Pause(0.3), *CHAT)) as slow,
            serving(tmp_path, routing(slow, model=model)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code == 200
        assert len(slow.seen) == 1


BEGUN = (ROLE, text("Once"))


class TestAfter:
    @pytest.mark.slow
    async def test_a_stream_out_of_time_ends_with_an_error(self, tmp_path):
        script = stream(*BEGUN, *[text("."), Pause(0.02)] * 100)
        async with scripted(script) as endless:
            model = {"timeouts": {"total": "300ms"}}
            async with serving(tmp_path, routing(endless, model=model)) as gateway:
                answer = await gateway.chat(stream=True)
                await endless.seen[0].gone()
        assert error_of(answer.text)["code"] == "upstream_timeout"
        assert said(answer.text).startswith("Once.")
        assert len(endless.seen) == 1

    async def test_one_of_two_choices_that_never_finishes_is_a_failure(self, tmp_path):
        for ending in ((DONE,), ()):
            script = stream(text("a", 0), text("b", 1), chunk({}, index=0, finish="stop"), *ending)
            async with scripted(script) as bad, serving(tmp_path, routing(bad)) as gateway:
                answer = await gateway.chat(stream=True, n=2)
            assert "finish reason" in error_of(answer.text)["message"]

    async def test_a_second_choice_that_never_began_is_a_failure_too(self, tmp_path):
        script = stream(text("a", 0), chunk({}, index=0, finish="stop"))
        async with scripted(script) as bad, serving(tmp_path, routing(bad)) as gateway:
            answer = await gateway.chat(stream=True, n=2)
        assert "finish reason" in error_of(answer.text)["message"]


class TestWhole:
    async def test_a_last_event_without_its_blank_line_counts(self, tmp_path):
        for ending in (b"data: [DONE]", b"data: [DONE]\n", b""):
            async with (
                scripted(stream(ROLE, text("Once"), FINISH.rstrip() + b"\n\n" + ending)) as one,
                serving(tmp_path, routing(one)) as gateway,
            ):
                answer = await gateway.chat(stream=True)
            assert answer.text.rstrip().endswith("data: [DONE]")
            assert answer.text.count("[DONE]") == 1

    async def test_a_usage_chunk_with_no_choices_passes(self, tmp_path):
        usage = data(
            {
                "model": "engine-model",
                "choices": [],
                "usage": {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
            }
        )
        async with (
            scripted(stream(*STORY[:-1], usage, DONE)) as one,
            serving(tmp_path, routing(one)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        last = events(answer.text)[-1]
        assert last["choices"] == []
        assert last["usage"]["total_tokens"] == 5
        assert last["model"] == "tale"
        assert is_done(answer.text)

    @pytest.mark.parametrize("size", [1, 2, 3, 7, 64])
    @pytest.mark.parametrize("line_end", [b"\n", b"\r\n"], ids=["LF", "CRLF"])
    async def test_events_may_come_in_any_pieces(self, tmp_path, size, line_end):
        whole = b"".join((b": hi\n\n", *STORY)).replace(b"\n", line_end)
        head = STREAM_HEAD.replace(b"transfer-encoding: chunked", b"connection: close")
        async with (
            scripted((Send(head), Drip(whole, size), Close())) as one,
            serving(tmp_path, routing(one)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        assert said(answer.text) == "Once upon"
        assert answer.content == whole.replace(b'"model":"engine-model"', b'"model":"tale"')

    async def test_an_answer_of_nothing_but_its_end_is_one(self, tmp_path):
        async with (
            scripted(stream(ROLE, FINISH, DONE)) as terse,
            serving(tmp_path, routing(terse)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        assert answer.status_code == 200
        assert is_done(answer.text)
        assert len(terse.seen) == 1

    async def test_an_empty_finish_reason_is_none(self, tmp_path):
        script = stream(chunk({"content": "a"}, finish=""), chunk({"content": "b"}, finish=""))
        async with scripted(script) as odd, serving(tmp_path, routing(odd)) as gateway:
            answer = await gateway.chat(stream=True)
        assert said(answer.text) == "ab"
        assert "finish reason" in error_of(answer.text)["message"]
