"""Streams of either dialect: whole, cut anywhere, broken, and in one piece."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

from backends.base import Endpoint
from backends.sse import MAX_EVENT
from gateway.wire.json_answer import MalformedAnswerError
from gateway.wire.translate import TRANSLATIONS
from gateway.wire.translate.translation import StreamTranslator
from gateway.wire.watch import watch_for
from tests.support.chats import CALLED, IDENTITY, TOLD, USAGE, call, translated
from tests.support.upstream import DONE, FINISH, ROLE, chunk, data, text

BODIES = {
    Endpoint.MESSAGES: b'{"model":"m","max_tokens":9,"messages":[{"role":"user","content":"Hi"}]}',
    Endpoint.RESPONSES: b'{"model":"m","input":"Hi"}',
}


@pytest.fixture(params=list(BODIES))
def endpoint(request):
    return request.param


@pytest.fixture
def translation(endpoint):
    return TRANSLATIONS[endpoint](BODIES[endpoint])


def watched(endpoint, out):
    """What the watch of the dialect makes of it; as the gateway uses it."""
    watch = watch_for(endpoint, 1)
    watch.feed(out)
    return watch


@pytest.mark.parametrize("events", [TOLD, CALLED], ids=["told", "called"])
def test_it_is_whole_to_the_watch_of_its_dialect(endpoint, translation, events):
    watch = watched(endpoint, translated(translation, *events))
    assert watch.finished
    assert watch.done
    assert watch.failure is None
    assert watch.model == "engine-model"
    assert watch.prompt_tokens == 10
    assert watch.completion_tokens == 5


def cut(body, places):
    borders = [0, *sorted(places), len(body)]
    return [body[start:end] for start, end in pairwise(borders)]


@pytest.mark.parametrize("events", [TOLD, CALLED], ids=["told", "called"])
@pytest.mark.parametrize("line_end", [b"\n", b"\r\n"])
def test_it_is_the_same_wherever_it_is_cut(translation, events, line_end):
    body = b"".join(events).replace(b"\n", line_end)
    expected = translated(translation, *events)
    for place in range(1, len(body)):
        assert translated(translation, *cut(body, [place])) == expected
    rng = random.Random(7)
    for _ in range(200):
        places = rng.sample(range(1, len(body)), rng.randint(2, 60))
        assert translated(translation, *cut(body, places)) == expected
    assert translated(translation, *cut(body, range(1, len(body)))) == expected


@pytest.mark.parametrize("events", [TOLD, CALLED], ids=["told", "called"])
def test_a_stream_that_ends_early_never_looks_finished(endpoint, translation, events):
    body = b"".join(events)
    complete = body.index(b'"finish_reason":"') + 1
    for end in range(body.index(b"\n\n", complete)):
        watch = watched(endpoint, translated(translation, body[:end]))
        assert not watch.finished
        assert not watch.done


def test_nothing_follows_before_the_engine_has_said_all(endpoint, translation):
    """The usage comes after the finish reason."""
    out = translated(translation, *TOLD[:-2], ended=False)
    assert not watched(endpoint, out).finished


@pytest.mark.parametrize("ending", [(FINISH,), (FINISH, USAGE), (FINISH, USAGE, DONE)])
def test_a_done_may_be_lacking(endpoint, translation, ending):
    out = translated(translation, ROLE, text("Hi"), *ending)
    assert watched(endpoint, out).finished


def test_the_last_event_may_lack_its_blank_line(endpoint, translation):
    out = translated(translation, text("Hi"), FINISH[:-2])
    assert watched(endpoint, out).finished


def test_an_empty_answer_is_one(endpoint, translation):
    watch = watched(endpoint, translated(translation, ROLE, FINISH, DONE))
    assert watch.content
    assert watch.finished


@pytest.mark.parametrize(
    ("events", "status", "message"),
    [
        ((DONE,), None, "ended its stream without a finish reason"),
        ((b"data: {\n\n",), None, "malformed event"),
        ((b"data: {",), None, "malformed event"),
        ((chunk({}, finish="abort"),), None, "gave up on the answer"),
        ((data({"error": {"message": "out of memory", "code": 503}}),), 503, "out of memory"),
        ((b'event: error\ndata: {"message": "no"}\n\n',), None, "no"),
        ((b'error: {"code": 400, "message": "too long"}\n\n',), 400, "too long"),
        ((chunk({"tool_calls": [{"index": 0, "function": {}}]}),), None, "without saying its name"),
        ((call(0, "{", "f"), call(1, "{", "g"), call(0, "}")), None, "call 0 after another"),
    ],
)
@pytest.mark.parametrize("begun", [(), (ROLE,), (ROLE, text("Once"))])
def test_what_goes_wrong_is_told(endpoint, translation, begun, events, status, message):
    watch = watched(endpoint, translated(translation, *begun, *events, text("more"), FINISH, DONE))
    assert message in watch.failure.message
    assert watch.failure.status == status
    assert not watch.finished


def test_an_event_that_never_ends_is_told(endpoint, translation):
    out = translated(translation, text("Hi"), b"data: " + b"x" * (MAX_EVENT + 1))
    assert "longer than" in watched(endpoint, out).failure.message


def test_an_answer_that_never_ends_is_told(endpoint, translation, monkeypatch):
    monkeypatch.setattr("gateway.wire.translate.writer.MAX_ANSWER", 10)
    out = translated(translation, text("12345"), text("123456"))
    assert "longer than" in watched(endpoint, out).failure.message


def test_a_keep_alive_passes(translation):
    translator = StreamTranslator(translation.writer(IDENTITY))
    translator.feed(ROLE)
    assert translator.feed(b": still here\n\n") == b": still here\n\n"


def test_other_answers_than_the_first_are_left_out(translation):
    other = text("Twice", index=1)
    assert translated(translation, other, *TOLD) == translated(translation, *TOLD)


class TestWhole:
    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b"{}", b'{"choices": []}', b'"x"'])
    def test_what_is_no_answer_is_malformed(self, translation, body):
        with pytest.raises(MalformedAnswerError):
            translation.whole(body, IDENTITY)

    def test_one_that_the_engine_gave_up_is_none(self, translation):
        body = b'{"choices": [{"message": {"content": "x"}, "finish_reason": "abort"}]}'
        with pytest.raises(MalformedAnswerError, match="gave up"):
            translation.whole(body, IDENTITY)

    def test_an_error_stays_as_it_is(self, translation):
        body = b'{"error": {"message": "no"}}'
        assert translation.whole(body, IDENTITY) == body
