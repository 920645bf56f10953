from __future__ import annotations

import json

import pytest

from backends.engine_error import NO_REASON, EngineError, is_error_object, parse_error


@pytest.mark.parametrize(
    ("said", "message", "code", "status"),
    [
        ({"error": {"message": "m", "code": "c", "param": "p"}}, "m", "c", 400),
        ({"error": {"message": "m", "code": 503}}, "m", None, 400),
        ({"object": "error", "message": "m", "code": 40303}, "m", None, 400),
        ({"type": "error", "error": {"type": "t", "message": "m"}}, "m", None, 400),
        ({"detail": "m"}, "m", None, 400),
        ({"detail": [{"msg": "m"}]}, '[{"msg":"m"}]', None, 400),
        ({"error": "m"}, "m", None, 400),
        ({"error": {"message": {"deep": 1}}}, '{"deep":1}', None, 400),
        ({"error": {}}, "the engine gave no reason", None, 400),
        ({}, "the engine gave no reason", None, 400),
        ([], "[]", None, 400),
        (None, "the engine gave no reason", None, 400),
        ("m", "m", None, 400),
        ({"message": "maximum context length is 5"}, None, "context_length_exceeded", 400),
        ({"error": {"type": "exceed_context_size_error"}}, None, "context_length_exceeded", 400),
    ],
)
def test_any_shape_is_read(said, message, code, status):
    error = parse_error(400, json.dumps(said).encode())
    assert message is None or error.message == message
    assert (error.code, error.status) == (code, status)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"Bad Gateway\n", "Bad Gateway"),
        (b"", "the engine gave no reason"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"[" * 100_000, "[" * 300),
        (b"x" * 1000, "x" * 300),
    ],
)
def test_what_cannot_be_read_stands_for_itself(body, message):
    assert parse_error(502, body).message == message
    assert not is_error_object(body)


def test_a_code_that_is_a_status_is_one_inside_a_stream():
    assert parse_error(None, b'{"error":{"code":429,"message":"m"}}').status == 429
    assert parse_error(None, b'{"error":{"code":7,"message":"m"}}').status is None


@pytest.mark.parametrize("body", [b'{"detail":"Not Found"}', b"{}", b"[]", b'{"error":null}'])
def test_not_every_object_is_an_error(body):
    assert not is_error_object(body)


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_mistake_of_the_client_is_one_wherever_it_is_asked(status):
    assert parse_error(status, b"no").is_clients_own


@pytest.mark.parametrize("status", [None, 408, 429, 500, 503])
def test_what_another_replica_may_do_better_is_not_the_clients_own(status):
    assert not parse_error(status, b"no").is_clients_own


class TestWithout:
    def test_every_text_is_looked_through(self):
        body = b'{"error": {"message": "a", "code": "a", "deep": [{"a": "\\u0061", "n": 1}]}}'
        said = parse_error(400, body).without(lambda text: text.replace(b'"a"', b'"*"'))
        assert (said.message, said.code, said.status) == ("*", "*", 400)
        assert said.told == {"message": "*", "code": "*", "deep": [{"*": "*", "n": 1}]}

    def test_nothing_is_told_where_that_takes_it_apart(self):
        said = EngineError("secret", status=400, told={"message": "secret"})
        assert said.without(lambda text: text.replace(b'"', b"*")) == EngineError(
            NO_REASON, status=400
        )
