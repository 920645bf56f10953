"""Before the first content another replica may still be asked; after it the truth is told."""

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
    Reset,
    Send,
    Silence,
    chunk,
    chunked,
    data,
    response,
    scripted,
    stream,
    text,
)

GOOD = stream(*STORY)


BEFORE = {
    "reset before the head": (Reset(),),
    "closed before the head": (Close(),),
    "torn head": (Send(b"HTTP/1.1 200 OK\r\ncontent-ty"), Close()),
    "no HTTP": (Send(b"SSH-2.0-OpenSSH_9.6\r\n"), Close()),
    "reset after the head": (Send(STREAM_HEAD), Reset()),
    "reset after the role": (*stream(ROLE, ended=False), Reset()),
    "cut after the role": (*stream(ROLE, ended=False), Close()),
    "ended after the role": stream(ROLE),
    "ended without any event": stream(),
    "[DONE] and nothing else": stream(DONE),
    "role and [DONE]": stream(ROLE, DONE),
    "malformed first event": stream(b"data: {broken\n\n"),
    "malformed event after the role": stream(ROLE, b'data: {"choices":[{]}\n\n'),
    "not UTF-8": stream(b'data: {"model":"\xff\xfe"}\n\n'),
    "error as the first event": stream(data({"error": {"message": "out of memory", "code": 500}})),
    "error after the role": stream(ROLE, data({"error": {"message": "out of memory"}})),
    "error in an error field": stream(ROLE, b'error: {"code":500,"message":"no slot"}\n\n'),
    "role and error in one write": stream(ROLE + data({"error": {"message": "no"}})),
    "HTML with 200": (Send(response(200, b"<html>", ("content-type", "text/html"))),),
    "compressed unasked": (
        Send(
            response(
                200,
                b"\x1f\x8b\x08",
                ("content-type", "text/event-stream"),
                ("content-encoding", "gzip"),
            )
        ),
    ),
    "bad chunk size": (Send(STREAM_HEAD + b"zz\r\n"), Close()),
    "500": (Send(response(500, b'{"error":{"message":"no"}}')),),
    "502 from a proxy": (Send(response(502, b"<html>Bad Gateway</html>")),),
    "a redirect": (Send(response(307, b"", ("location", "http://127.0.0.1:1/"))),),
    "408": (Send(response(408, b"")),),
    "401": (Send(response(401, b'{"error":{"message":"bad key"}}')),),
}


class TestBefore:
    @pytest.mark.parametrize("script", BEFORE.values(), ids=BEFORE)
    async def test_another_replica_answers_and_the_client_sees_no_trace(self, tmp_path, script):
        async with (
            scripted(GOOD) as good,
            scripted(script) as bad,
            serving(tmp_path, routing(good, bad)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        assert answer.status_code == 200
        assert said(answer.text) == "Once upon"
        assert is_done(answer.text)
        assert answer.text.count('"role":"assistant"') == 1
        assert answer.headers["x-gateway-attempts"] == "2"
        assert answer.headers["x-gateway-replica"] == f"engine@{good.id}"
        assert (len(bad.seen), len(good.seen)) == (1, 1)

    @pytest.mark.parametrize("script", BEFORE.values(), ids=BEFORE)
    async def test_with_nobody_else_it_is_a_status_and_never_a_200(self, tmp_path, script):
        async with scripted(script) as bad:
            model = {"retry": {"attempts": 2, "backoff": "1ms"}}
            async with serving(tmp_path, routing(bad, model=model)) as gateway:
                answer = await gateway.chat(stream=True)
        assert answer.status_code in (502, 503, 504)
        assert answer.json()["error"]["message"]
        assert "Traceback" not in answer.text
        assert len(bad.seen) == 2
        assert answer.headers["x-gateway-attempts"] == "2"


SLOW = {
    "silence": (Silence(),),
    "a slow head": (Drip(STREAM_HEAD, 1, 0.05),),
    "a head and silence": (Send(STREAM_HEAD), Silence()),
    "the role and silence": (*stream(ROLE, ended=False), Silence()),
    "comments only": stream(*[b": keep-alive\n\n", Pause(0.02)] * 200),
    "empty deltas only": stream(*[chunk({"content": ""}), Pause(0.02)] * 200),
}


class TestFirstToken:
    @pytest.mark.parametrize("script", SLOW.values(), ids=SLOW)
    async def test_another_replica_is_asked_and_the_slow_one_let_go(self, tmp_path, script):
        model = {"timeouts": {"first_token": "150ms"}}
        async with (
            scripted(GOOD) as good,
            scripted(script) as bad,
            serving(tmp_path, routing(good, bad, model=model)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
            await bad.seen[0].gone()
        assert said(answer.text) == "Once upon"
        assert (len(bad.seen), len(good.seen)) == (1, 1)
        assert good.seen[0].at - bad.seen[0].at >= 0.1

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
AFTER = {
    "reset": (*stream(*BEGUN, Pause(0.02), ended=False), Reset()),
    "cut": (*stream(*BEGUN, ended=False), Close()),
    "ended as HTTP should": stream(*BEGUN),
    "[DONE] without a finish reason": stream(*BEGUN, DONE),
    "malformed event": stream(*BEGUN, b"data: {broken\n\n", FINISH, DONE),
    "torn last event": stream(*BEGUN, b'data: {"choices":[{"ind'),
    "error object": stream(*BEGUN, data({"error": {"message": "out of memory"}}), DONE),
    "error field": stream(*BEGUN, b'error: {"code":500,"message":"no slot"}\n\n'),
    "content and error in one write": stream(b"".join(BEGUN) + data({"error": {"message": "no"}})),
    "an event that never ends": (
        *stream(*BEGUN, *[b"x" * (1 << 20)] * 18, ended=False),
        Silence(),
    ),
    "silence": (*stream(*BEGUN, ended=False), Silence()),
}


class TestAfter:
    @pytest.mark.parametrize("script", AFTER.values(), ids=AFTER)
    async def test_the_stream_ends_with_an_error_and_never_with_done(self, tmp_path, script):
        model = {"timeouts": {"idle": "250ms"}}
        async with (
            scripted(GOOD) as good,
            scripted(script) as bad,
            serving(tmp_path, routing(good, bad, model=model)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        assert answer.status_code == 200
        assert said(answer.text) == "Once"
        error = error_of(answer.text)
        assert error["type"] in ("upstream_error", "timeout_error")
        assert f"engine@{bad.id}" in error["message"]
        assert (len(bad.seen), len(good.seen)) == (1, 0)

    async def test_going_silent_is_told_as_a_timeout_and_frees_the_engine(self, tmp_path):
        async with scripted(AFTER["silence"]) as bad:
            model = {"timeouts": {"idle": "100ms"}}
            async with serving(tmp_path, routing(bad, model=model)) as gateway:
                answer = await gateway.chat(stream=True)
                await bad.seen[0].gone()
        assert error_of(answer.text)["code"] == "upstream_timeout"

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
    async def test_a_missing_done_is_added(self, tmp_path):
        async with (
            scripted(stream(ROLE, text("Once"), FINISH)) as forgetful,
            serving(tmp_path, routing(forgetful)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        assert is_done(answer.text)
        assert answer.text.count("[DONE]") == 1
        assert said(answer.text) == "Once"

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

    async def test_a_slow_drip_is_no_failure(self, tmp_path):
        whole = chunked(b"".join(STORY)) + b"0\r\n\r\n"
        model = {"timeouts": {"first_token": "2s", "idle": "200ms"}}
        async with (
            scripted((Send(STREAM_HEAD), Drip(whole, 40, 0.02))) as slow,
            serving(tmp_path, routing(slow, model=model)) as gateway,
        ):
            answer = await gateway.chat(stream=True)
        assert said(answer.text) == "Once upon"
        assert is_done(answer.text)
