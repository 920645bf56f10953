from __future__ import annotations

import pytest

from backends.base import Endpoint
from gateway.wire.watch import watch_for
from tests.support.upstream import DONE, FINISH, ROLE, STORY, chunk, data, event, text

DELTA = event("content_block_delta", delta={"type": "text_delta", "text": "x"})
REASON = event("message_delta", delta={"stop_reason": "end_turn"}, usage={"output_tokens": 2})
STARTED = event("message_start", message={"model": "m", "usage": {"input_tokens": 3}})


def fed(endpoint, *blocks, n=1):
    watch = watch_for(endpoint, n)
    for block in blocks:
        watch.feed(block)
    return watch


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.RERANK, Endpoint.COUNT_TOKENS])
def test_what_does_not_stream_has_no_watch(endpoint):
    assert watch_for(endpoint, 1) is None


class TestContent:
    @pytest.mark.parametrize(
        ("endpoint", "block"),
        [
            (Endpoint.CHAT, text("x")),
            (Endpoint.CHAT, chunk({"reasoning_content": "x"})),
            (Endpoint.CHAT, chunk({"reasoning": "x"})),
            (Endpoint.CHAT, chunk({"reasoning": {"text": "x"}})),
            (Endpoint.CHAT, chunk({"refusal": "x"})),
            (Endpoint.CHAT, chunk({"tool_calls": [{"index": 0}]})),
            (Endpoint.CHAT, FINISH),
            (Endpoint.COMPLETIONS, data({"choices": [{"index": 0, "text": "x"}]})),
            (Endpoint.RESPONSES, event("response.output_text.delta", delta="x")),
            (Endpoint.RESPONSES, event("response.completed", response={})),
            (Endpoint.MESSAGES, DELTA),
            (Endpoint.MESSAGES, REASON),
        ],
    )
    def test_is_what_a_user_would_see(self, endpoint, block):
        assert fed(endpoint, block).content

    @pytest.mark.parametrize(
        ("endpoint", "block"),
        [
            (Endpoint.CHAT, ROLE),
            (Endpoint.CHAT, chunk({"content": None, "tool_calls": []})),
            (Endpoint.CHAT, chunk({"content": "x"})[:0] + b": comment\n\n"),
            (Endpoint.CHAT, data({"choices": [], "usage": {"prompt_tokens": 3}})),
            (Endpoint.COMPLETIONS, data({"choices": [{"index": 0, "text": ""}]})),
            (Endpoint.RESPONSES, event("response.created", response={"model": "m"})),
            (Endpoint.MESSAGES, STARTED),
            (Endpoint.MESSAGES, event("ping")),
        ],
    )
    def test_is_nothing_else(self, endpoint, block):
        watch = fed(endpoint, block)
        assert not watch.content
        assert watch.failure is None


class TestFinished:
    @pytest.mark.parametrize(
        ("endpoint", "blocks"),
        [
            (Endpoint.CHAT, STORY),
            (Endpoint.CHAT, STORY[:-1]),
            (Endpoint.MESSAGES, (STARTED, DELTA, REASON)),
            (Endpoint.RESPONSES, (event("response.incomplete", response={}),)),
        ],
    )
    def test_once_the_engine_says_so(self, endpoint, blocks):
        watch = fed(endpoint, *blocks)
        assert watch.finished
        assert watch.failure is None
        assert not fed(endpoint, *blocks[:-2]).finished or len(blocks) > 4

    def test_all_choices_must_be(self):
        one = chunk({}, index=0, finish="stop")
        other = chunk({}, index=1, finish="length")
        assert not fed(Endpoint.CHAT, one, n=2).finished
        assert fed(Endpoint.CHAT, one, other, n=2).finished
        assert fed(Endpoint.CHAT, one, DONE, n=2).finished  # the engine ignores n, and says so
        assert fed(Endpoint.CHAT, one, text("x", 1), DONE, n=2).failure is not None


class TestFailure:
    @pytest.mark.parametrize(
        ("endpoint", "block"),
        [
            (Endpoint.CHAT, DONE),
            (Endpoint.CHAT, data({"error": {"message": "no"}})),
            (Endpoint.CHAT, b'error: {"message":"no"}\n\n'),
            (Endpoint.CHAT, b'event: error\ndata: {"message":"no"}\n\n'),
            (Endpoint.CHAT, b"data: {\n\n"),
            (Endpoint.CHAT, b'data: {"choices":[{"index":0,"delta":{"content":"\xff"}}]}\n\n'),
            (Endpoint.CHAT, b'data: {"x":' + b"[" * 100_000 + b"\n\n"),
            (Endpoint.MESSAGES, event("error", error={"type": "x", "message": "no"})),
            (Endpoint.MESSAGES, event("message_stop")),
            (Endpoint.MESSAGES, data({"error": {"message": "no"}})),
            (Endpoint.RESPONSES, event("response.failed", response={"error": {"message": "no"}})),
            (Endpoint.RESPONSES, data({"error": {"message": "no"}})),
        ],
    )
    def test_is_noticed_and_what_stands_before_it_is_good(self, endpoint, block):
        watch = watch_for(endpoint, 1)
        before = b": fine\n\n"
        assert watch.feed(before + block + before) in (0, len(before))
        assert watch.failure is not None
        assert watch.failure.message

    @pytest.mark.parametrize(
        ("endpoint", "block"),
        [
            (Endpoint.CHAT, b"data: []\n\n"),
            (Endpoint.CHAT, data({"choices": [{"index": None, "delta": "x"}], "usage": 3})),
            (Endpoint.COMPLETIONS, data({"choices": [{"text": ["x"]}], "model": {}})),
            (
                Endpoint.RESPONSES,
                event("response.created", response={"usage": {"input_tokens": 0.5}}),
            ),
            (Endpoint.MESSAGES, event("message_start", message={"model": None, "usage": []})),
        ],
    )
    def test_is_not_what_only_a_specification_forbids(self, endpoint, block):
        assert fed(endpoint, block).failure is None

    def test_an_error_that_is_null_is_none(self):
        assert fed(Endpoint.CHAT, data({"error": None, "choices": []})).failure is None


@pytest.mark.parametrize(
    ("endpoint", "blocks", "pieces"),
    [
        (Endpoint.CHAT, [ROLE, text("a") + text("b"), text("c"), FINISH, DONE], 3),
        (Endpoint.CHAT, [*STORY], 2),
        (
            Endpoint.RESPONSES,
            [
                event("response.output_text.delta", delta="x"),
                event("response.output_text.done", text="x"),
                event("response.completed", response={}),
            ],
            1,
        ),
        (Endpoint.MESSAGES, [STARTED, DELTA, DELTA, REASON], 2),
    ],
)
def test_events_with_text_are_counted(endpoint, blocks, pieces):
    assert fed(endpoint, *blocks).pieces == pieces


def test_tokens_are_counted_in_either_dialects_words():
    usage = data({"choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 2}})
    for watch in (fed(Endpoint.CHAT, usage), fed(Endpoint.MESSAGES, STARTED, REASON)):
        assert (watch.prompt_tokens, watch.completion_tokens) == (3, 2)


@pytest.mark.parametrize(
    ("endpoint", "told"),
    [
        (
            Endpoint.CHAT,
            data({"choices": [], "usage": {"prompt_tokens_details": {"cached_tokens": 5}}}),
        ),
        (
            Endpoint.RESPONSES,
            event(
                "response.completed",
                response={"usage": {"input_tokens_details": {"cached_tokens": 5}}},
            ),
        ),
        (
            Endpoint.MESSAGES,
            event("message_start", message={"usage": {"cache_read_input_tokens": 5}}),
        ),
    ],
)
def test_what_came_from_a_cache_is_told_in_each_dialects_words(endpoint, told):
    assert fed(endpoint, told).cached_tokens == 5


@pytest.mark.parametrize("details", [None, {}, {"cached_tokens": "many"}, 7])
def test_a_cache_of_which_nothing_sound_is_said_is_unknown(details):
    usage = {"prompt_tokens": 3, "prompt_tokens_details": details}
    watch = fed(Endpoint.CHAT, data({"choices": [], "usage": usage}))
    assert (watch.prompt_tokens, watch.cached_tokens) == (3, None)


@pytest.mark.parametrize("created", [2, None])
def test_anthropic_counts_what_came_from_a_cache_apart(created):
    usage = {
        "input_tokens": 3,
        "cache_read_input_tokens": 5,
        "cache_creation_input_tokens": created,
    }
    watch = fed(Endpoint.MESSAGES, event("message_start", message={"usage": usage}))
    assert watch.prompt_tokens == 8 + (created or 0)


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.RESPONSES, Endpoint.MESSAGES])
def test_a_done_before_the_end_is_a_failure_in_every_dialect(endpoint):
    watch = watch_for(endpoint, 1)
    assert watch.feed(b"data: [DONE]\n\n") == 0
    assert watch.failure is not None
