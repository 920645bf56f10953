from __future__ import annotations

import json

import pytest

from backends.base import BackendError, Cause, RequestRefused, Stage
from backends.engine_error import EngineError
from gateway.dispatch.verdict import (
    DEADLINE_EXCEEDED,
    FIRST_TOKEN_TIMEOUT,
    IDLE_TIMEOUT,
    TOTAL_TIMEOUT,
    Failure,
    Tells,
    Why,
    judge_exception,
    judge_not_ready,
    judge_protocol,
    judge_status,
    judge_stream,
    judge_timeout,
    more_telling,
)
from gateway.errors import UpstreamFailed

ERROR = json.dumps({"error": {"message": "because"}}).encode()

TABLE = {
    # status, body: told, retry, fall back, blame
    (301, b""): (502, True, True, True),
    (400, ERROR): (400, False, False, False),
    (401, ERROR): (502, True, True, True),
    (403, ERROR): (502, True, True, True),
    (404, ERROR): (404, False, False, False),
    (404, b"<html>"): (501, False, True, False),
    (404, b'{"detail":"Not Found"}'): (501, False, True, False),
    (405, ERROR): (501, False, True, False),
    (408, ERROR): (504, True, True, True),
    (409, ERROR): (409, False, False, False),
    (422, ERROR): (400, False, False, False),
    (429, ERROR): (429, True, True, False),
    (500, ERROR): (502, True, True, True),
    (501, ERROR): (501, False, True, False),
    (503, ERROR): (503, True, True, True),
    (504, ERROR): (504, True, True, True),
    (599, b""): (502, True, True, True),
}


@pytest.mark.parametrize(("case", "verdict"), TABLE.items(), ids=map(str, TABLE))
def test_the_table_of_statuses(case, verdict):
    failure = judge_status(*case[:1], [], case[1], "e@r", 0.0)
    told = (failure.error.status, failure.retry, failure.fall_back, failure.blame)
    assert told == verdict
    assert failure.error.message
    assert failure.leave_replica is bool(failure.misconfigured) is (case[0] in (301, 401, 403))
    assert failure.overloaded is (case[0] == 429)


def test_a_redirect_says_what_would_be_right_and_no_secret():
    location = (b"location", b"https://h.example/v1?key=secret")
    message = judge_status(307, [location], b"", "e@r", 0.0).error.message
    assert "to https://h.example, " in message
    assert "`replicas`" in message
    assert "secret" not in message


@pytest.mark.parametrize(
    ("stage", "cause", "status"),
    [
        (Stage.CONNECT, Cause.REFUSED, 503),
        (Stage.CONNECT, Cause.TLS, 503),
        (Stage.SENT, Cause.RESET, 502),
        (Stage.STREAMING, Cause.PROTOCOL, 502),
        (Stage.SENT, Cause.ENGINE, 502),
        (Stage.SENT, Cause.UNSUPPORTED, 501),
    ],
)
def test_what_adapters_raise(stage, cause, status):
    failure = judge_exception(BackendError(stage, cause, "why"), "e@r")
    assert failure.error.status == status
    assert failure.cause == cause
    assert failure.retry == (status != 501)
    assert "e@r" in failure.error.message


@pytest.mark.parametrize(("told", "said"), [(None, 1.0), (7.0, 7.0)])
def test_an_engine_in_this_process_says_when_there_may_be_room(
    told: float | None, said: float
) -> None:
    failure = judge_exception(RequestRefused(429, "full", retry_after=told), "e@r")
    assert failure.error.retry_after == said
    assert not failure.blame
    # It may be asked of another replica at once, and of this one it would be the end of the queue.
    assert (failure.retry, failure.leave_replica, failure.retry_after) == (True, True, None)


@pytest.mark.parametrize(
    ("status", "retry", "fall_back"), [(400, False, False), (429, True, True), (501, False, True)]
)
def test_what_engines_in_process_refuse(status, retry, fall_back):
    failure = judge_exception(RequestRefused(status, "no", param="n"), "e@r")
    assert (failure.retry, failure.fall_back, failure.blame) == (retry, fall_back, False)
    assert failure.error.status == status
    assert failure.error.message == "no"


def test_an_engine_that_loads_its_model_is_not_to_blame():
    failure = judge_exception(BackendError(Stage.CONNECT, Cause.LOADING, "loading"), "e@0")
    assert (failure.error.status, failure.error.message) == (503, "replica e@0: loading")
    assert (failure.retry, failure.fall_back, failure.blame) == (True, True, False)
    assert failure.loading == "loading"


def test_an_engine_that_is_not_started_in_time():
    failure = judge_not_ready(BackendError(Stage.CONNECT, Cause.REFUSED, "no room"), "e@0")
    assert (failure.error.status, failure.error.message) == (503, "replica e@0: no room")
    assert failure.error.retry_after == 10
    assert (failure.retry, failure.fall_back, failure.blame, failure.leave_replica) == (
        *(True, True),
        *(False, True),
    )


@pytest.mark.parametrize(("known", "told"), [(0.0, 0.0), (47.0, 47.0), (1e9, 3600.0)])
def test_an_engine_that_knows_when_it_is_back(known, told):
    error = BackendError(Stage.CONNECT, Cause.REFUSED, "crash_loop", retry_after=known)
    assert judge_not_ready(error, "e@0").error.retry_after == told


@pytest.mark.parametrize(
    ("said", "status", "retry"),
    [(None, 502, True), (500, 502, True), (400, 400, False), (429, 429, True), (408, 502, True)],
)
def test_errors_inside_a_stream(said, status, retry):
    failure = judge_stream(EngineError("why", status=said), "e@r")
    assert (failure.error.status, failure.retry) == (status, retry)


@pytest.mark.parametrize(
    ("cause", "goes_on"),
    [
        (FIRST_TOKEN_TIMEOUT, True),
        (IDLE_TIMEOUT, True),
        (TOTAL_TIMEOUT, False),
        (DEADLINE_EXCEEDED, False),
    ],
)
def test_waits_that_were_too_long(cause, goes_on):
    failure = judge_timeout(cause, 1.5, "e@r")
    assert failure.error.status == 504
    assert (failure.retry, failure.fall_back, failure.leave_replica) == (goes_on, goes_on, True)
    assert "1.5 s" in failure.error.message
    assert failure.blame is (cause != DEADLINE_EXCEEDED)


@pytest.mark.parametrize(("had", "blame"), [(30.0, True), (15.0, True), (4.0, False)])
def test_a_replica_is_not_blamed_for_the_time_that_a_request_had_spent_before(had, blame):
    failure = judge_timeout(TOTAL_TIMEOUT, 30.0, "e@r", had)
    assert failure.blame is blame
    assert failure.error.message.endswith("; it had 4 s of that") is not blame


def test_a_replica_s_own_waits_are_all_its_own():
    failure = judge_timeout(IDLE_TIMEOUT, 30.0, "e@r", 1.0)
    assert failure.blame
    assert failure.error.message == "replica e@r was silent for 30 s"


def test_an_answer_against_the_rules():
    failure = judge_protocol("torn", "e@r")
    assert (failure.error.status, failure.retry, failure.blame) == (502, True, True)


CANNOT, NOBODY, FAILED = Tells


@pytest.mark.parametrize(
    ("former", "latter", "told"),
    [
        (FAILED, FAILED, "latter"),
        (FAILED, NOBODY, "former"),
        (FAILED, CANNOT, "former"),
        (NOBODY, FAILED, "latter"),
        (NOBODY, NOBODY, "former"),
        (NOBODY, CANNOT, "former"),
        (CANNOT, FAILED, "latter"),
        (CANNOT, NOBODY, "latter"),
        (CANNOT, CANNOT, "former"),
    ],
)
def test_which_of_two_models_failures_is_told(former, latter, told):
    one, other = (
        Failure(cause=name, error=UpstreamFailed(name), tells=tells)
        for name, tells in (("former", former), ("latter", latter))
    )
    assert more_telling(one, other).cause == told


@pytest.mark.parametrize(
    ("failure", "tells"),
    [
        (judge_status(501, [], b"", "e@r", 0.0), CANNOT),
        (judge_status(404, [], b"<html>", "e@r", 0.0), CANNOT),
        (judge_status(404, [], ERROR, "e@r", 0.0), FAILED),
        (judge_status(500, [], b"", "e@r", 0.0), FAILED),
        (judge_exception(RequestRefused(501, "no"), "e@r"), CANNOT),
        (judge_exception(RequestRefused(400, "no"), "e@r"), FAILED),
        (judge_exception(BackendError(Stage.SENT, Cause.UNSUPPORTED, "no"), "e@r"), CANNOT),
        (judge_exception(BackendError(Stage.SENT, Cause.RESET, "gone"), "e@r"), FAILED),
    ],
)
def test_who_cannot_tells_less_than_who_failed(failure, tells):
    assert failure.tells is tells


def said(status, **error):
    return judge_status(status, [], json.dumps({"error": error}).encode(), "e@r", 0.0)


@pytest.mark.parametrize(
    ("failure", "why"),
    [
        (said(503, message="down"), Why.UNAVAILABLE),
        (said(500, message="oops"), Why.UNAVAILABLE),
        (said(429, message="busy"), Why.OVERLOADED),
        (said(529, message="busy"), Why.OVERLOADED),
        (said(400, message="too long", code="context_length_exceeded"), Why.CONTEXT),
        (said(400, message="this model's maximum context length is 10"), Why.CONTEXT),
        (said(500, message="the request exceeds the available context size"), Why.CONTEXT),
        (judge_stream(EngineError("busy", status=429), "e@r"), Why.OVERLOADED),
        (judge_stream(EngineError("long", code="context_length_exceeded"), "e@r"), Why.CONTEXT),
        (
            judge_exception(RequestRefused(400, "long", code="context_length_exceeded"), "e@r"),
            Why.CONTEXT,
        ),
        (judge_exception(RequestRefused(429, "full"), "e@r"), Why.OVERLOADED),
        (judge_exception(RequestRefused(501, "cannot"), "e@r"), Why.UNAVAILABLE),
    ],
)
def test_why_another_model_is_asked(failure, why):
    assert (failure.fall_back, failure.why) == (True, why)


def test_what_is_too_long_is_asked_of_no_other_replica():
    failure = said(400, message="maximum context length")
    assert (failure.retry, failure.blame, failure.error.status) == (False, False, 400)
    assert failure.error.code == "context_length_exceeded"


@pytest.mark.parametrize("status", [400, 403, 451, 500])
@pytest.mark.parametrize("told", [{"code": "content_filter"}, {"type": "content_policy_violation"}])
def test_a_refusal_of_content_is_the_clients_to_see(status, told):
    failure = said(status, message="not of that", **told)
    assert (failure.retry, failure.fall_back, failure.blame) == (False, False, False)
    assert (failure.error.status, failure.error.message) == (status, "not of that")


def test_of_one_that_is_endless_the_client_is_told_what_errors_say():
    failure = said(400, message="no", code="content_filter", innererror={"x": "y" * (1 << 16)})
    assert failure.error.fields() == {
        "message": "no",
        "type": "invalid_request_error",
        "param": None,
        "code": "content_filter",
    }


def test_a_refusal_of_content_within_a_stream_too():
    failure = judge_stream(EngineError("not of that", code="content_filter"), "e@r")
    assert (failure.error.status, failure.retry, failure.fall_back) == (400, False, False)


@pytest.mark.parametrize(
    ("known", "told"),
    [
        ("is still starting: loading /srv/models/qwen", "is still starting: loading …/qwen"),
        ("/opt/my/python3 is no executable: install", "…/python3 is no executable: install"),
        ("ended: error: '/a/b.c/d' (os error 2)", "ended: error: '…/d' (os error 2)"),
        ("unix:/run/u/llm/0.sock: reset", "unix:…/0.sock: reset"),
        ("/a/b/x.gguf|/a/b/y.gguf", "…/x.gguf|…/y.gguf"),
        ("in /a/b/", "in …/"),
        ("http://host:80/v1/models answers HTTP 500", "http://host:80/v1/models answers HTTP 500"),
        ("/health answers 500, as does /v1/models", "/health answers 500, as does /v1/models"),
        ("3/4 of 5 and/or 6", "3/4 of 5 and/or 6"),
    ],
)
def test_no_client_learns_where_files_are(known, told):
    for judge in (judge_not_ready, judge_exception):
        for stage in (Stage.CONNECT, Stage.SENT):
            failure = judge(BackendError(stage, Cause.ENGINE, known), "e@0")
            assert failure.error.message == f"replica e@0: {told}"
