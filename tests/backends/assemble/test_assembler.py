from __future__ import annotations

import pytest

from backends.assemble import assembler_for
from backends.assemble.assembler import read_error
from backends.base import Endpoint


@pytest.mark.parametrize(
    ("data", "message", "status", "code"),
    [
        (b'{"error":{"code":400,"message":"no"}}', "no", 400, None),
        (b'{"code":"bad","message":"no"}', "no", None, "bad"),
        (b'{"error":"no"}', "no", None, None),
        (b'{"response":{"error":{"message":"no"}}}', "no", None, None),
        (b"no\xff", "no\N{REPLACEMENT CHARACTER}", None, None),
        (b"[1]", "[1]", None, None),
        (b'{"error":{"message":7,"code":7}}', "7", None, None),
    ],
)
def test_errors_are_read_in_whatever_shape_they_come(data, message, status, code):
    said = read_error(data).said
    assert (said.message, said.status, said.code) == (message, status, code)


def test_every_endpoint_that_streams_has_an_assembler():
    streaming = {endpoint for endpoint in Endpoint if assembler_for(endpoint) is not None}
    assert streaming == {
        Endpoint.CHAT,
        Endpoint.COMPLETIONS,
        Endpoint.RESPONSES,
        Endpoint.MESSAGES,
    }
