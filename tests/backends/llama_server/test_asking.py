from __future__ import annotations

import json

import pytest

from backends.base import Endpoint, Request
from backends.llama_server.asking import as_stream, with_progress

PROGRESS = {"return_progress": True}
STREAM = {"stream": True, **PROGRESS}
DEEP = b'{"x":' + b"[" * 100_000


def asked(endpoint, body):
    return Request(endpoint=endpoint, body=body)


@pytest.mark.parametrize(
    ("endpoint", "added"),
    [
        (Endpoint.CHAT, {**STREAM, "stream_options": {"include_usage": True}}),
        (Endpoint.COMPLETIONS, {**STREAM, "stream_options": {"include_usage": True}}),
        (Endpoint.RESPONSES, STREAM),
        (Endpoint.MESSAGES, STREAM),
    ],
)
def test_what_streams_is_asked_for_as_a_stream(endpoint, added):
    streamed, _ = as_stream(asked(endpoint, b'{"stream":false,"x":1.00}'))
    assert streamed.stream
    assert json.loads(streamed.body) == {"x": 1.0, **added}
    assert b'"x":1.00' in streamed.body


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.RERANK, Endpoint.COUNT_TOKENS])
def test_what_does_not_stream_is_not(endpoint):
    assert as_stream(asked(endpoint, b"{}")) is None


@pytest.mark.parametrize("body", [b"[]", b"{", b'{"n":"two"}', b'{"\xff":1}', DEEP])
def test_what_is_wrong_with_a_body_is_the_engines_to_say(body):
    assert as_stream(asked(Endpoint.CHAT, body)) is None


@pytest.mark.parametrize("endpoint", [Endpoint.CHAT, Endpoint.COMPLETIONS])
def test_a_stream_reports_on_the_prompt(endpoint):
    assert json.loads(with_progress(asked(endpoint, b'{"x":1}')).body) == {"x": 1, **PROGRESS}


@pytest.mark.parametrize(
    ("endpoint", "body"),
    [
        (Endpoint.CHAT, b'{"return_progress":false}'),
        (Endpoint.CHAT, b"[]"),
        (Endpoint.CHAT, DEEP),
        (Endpoint.MESSAGES, b"{}"),
        (Endpoint.RESPONSES, b"{}"),
    ],
)
def test_where_that_is_the_clients_affair_it_does_not(endpoint, body):
    assert with_progress(asked(endpoint, body)) is None
