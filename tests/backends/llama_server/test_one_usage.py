from __future__ import annotations

import json

import pytest

from backends.base import BackendError, Endpoint, Request
from backends.llama_server.one_usage import OneUsage, with_one_usage
from backends.sse import MAX_EVENT, events

DONE = b"data: [DONE]\n\n"
COUNTED = {"stream_options": {"include_usage": True}}


def event(*choices, **fields):
    return b"data: " + json.dumps({"choices": list(choices), **fields}).encode() + b"\n\n"


def usage(prompt, completion, cached=0):
    return {
        "completion_tokens": completion,
        "prompt_tokens": prompt,
        "total_tokens": prompt + completion,
        "prompt_tokens_details": {"cached_tokens": cached},
    }


TEXT = event({"index": 0, "delta": {"content": '"usage": 1'}})
"""JSON escapes the quotes in it, so it is no usage."""


@pytest.fixture
def passed(stream_of):
    async def passed(*pieces: bytes, n: int = 2) -> list[dict]:
        raw = b"".join([piece async for piece in OneUsage(stream_of(*pieces), n)])
        *found, done = [data for _, data, _ in events(raw)]
        assert done == b"[DONE]"
        return [json.loads(data) for data in found]

    return passed


async def test_the_counts_of_a_chats_choices_are_added_up_at_the_end(passed):
    told = await passed(
        TEXT, event(usage=usage(10, 2, 5), id="x"), TEXT, event(usage=usage(10, 3)), DONE
    )
    assert [one.get("usage") for one in told] == [None, None, usage(10, 5, 5)]
    assert told[-1]["choices"] == []


async def test_each_prompt_of_a_completion_counts_once(passed):
    pieces = [
        event({"index": index, "text": "", "finish_reason": "stop"}, usage=usage(4 + index // 2, 1))
        for index in (3, 0, 1, 2)
    ]
    told = await passed(*pieces, DONE)
    assert all("usage" not in one and one["choices"] for one in told[:-1])
    assert told[-1]["usage"] == usage(4 + 5, 4)


@pytest.mark.parametrize("at", range(1, 330, 7))
async def test_cut_anywhere(passed, at):
    whole = TEXT + event(usage=usage(10, 2)) + b":ping\n\n" + event(usage=usage(10, 3)) + DONE
    assert await passed(whole[:at], whole[at:]) == await passed(whole)


async def test_what_has_another_shape_passes_as_it_is(passed):
    strange = [
        event(usage=None),
        event(usage={"completion_tokens": "many"}),
        event(usage=usage(1, 1)).replace(b'"choices": []', b'"choices": 7'),
    ]
    assert await passed(*strange, DONE) == [json.loads(one[6:]) for one in strange]


async def test_a_stream_that_breaks_off_gets_no_usage(stream_of):
    pieces = [event(usage=usage(10, 2)), b"data: {"]
    assert [piece async for piece in OneUsage(stream_of(*pieces), 1)] == [b"data: {"]


async def test_an_event_without_end_is_an_error(stream_of):
    stream = OneUsage(stream_of(b"x" * (MAX_EVENT + 1)), 1)
    with pytest.raises(BackendError, match="longer than"):
        await anext(stream)


@pytest.mark.parametrize(
    ("endpoint", "fields", "mended"),
    [
        (Endpoint.CHAT, {**COUNTED, "n": 2}, True),
        (Endpoint.COMPLETIONS, COUNTED, True),
        (Endpoint.CHAT, COUNTED, False),
        (Endpoint.CHAT, {"n": 2}, False),
        (Endpoint.COMPLETIONS, {}, False),
        (Endpoint.RESPONSES, {**COUNTED, "n": 2}, False),
        (Endpoint.CHAT, {**COUNTED, "n": "two"}, False),
    ],
)
def test_only_what_needs_it_is_mended(stream_of, endpoint, fields, mended):
    request = Request(endpoint=endpoint, body=json.dumps(fields).encode())
    stream = stream_of()
    assert (with_one_usage(request, stream) is not stream) == mended
