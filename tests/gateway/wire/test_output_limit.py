from __future__ import annotations

import pytest

from gateway.wire.output_limit import output_limit


@pytest.mark.parametrize(
    ("body", "limit"),
    [
        (b'{"max_tokens": 5}', 5),
        (b'{"max_completion_tokens": 7, "messages": []}', 7),
        (b'{"max_output_tokens": 9}', 9),
        (b'{"max_tokens": 5, "max_completion_tokens": 3}', 3),
        (b'{"max_tokens": null}', None),
        (b'{"max_tokens": -1}', None),
        (b'{"max_tokens": "many"}', None),
        (b"{}", None),
        (b"[", None),
    ],
)
def test_what_a_request_says(body, limit):
    assert output_limit(body) == limit
