from __future__ import annotations

import msgspec
import pytest

from backends.base import Endpoint
from gateway.errors import BadRequest
from gateway.wire.peek import expected_choices, peek

CHAT = b'"messages":[{"role":"user","content":"x"}]'


def test_only_the_fields_of_routing_are_read():
    peeked = peek(Endpoint.CHAT, b'{"model":"m","stream":true,"n":2,"user":"u",' + CHAT + b"}")
    assert (peeked.model, peeked.stream, peeked.n, peeked.user) == ("m", True, 2, "u")
    assert bytes(peeked.messages) == CHAT.removeprefix(b'"messages":')


@pytest.mark.parametrize("number", [b"1e400", b"-0", b"1" * 400, b"0.1e-400"])
def test_what_is_not_looked_at_may_be_strange(number):
    assert peek(Endpoint.CHAT, b'{"model":"m","x":' + number + b"," + CHAT + b"}").model == "m"


@pytest.mark.parametrize("endpoint", [Endpoint.COMPLETIONS, Endpoint.EMBEDDINGS])
def test_empty_text_is_nothing_to_ask_about(endpoint):
    field = {Endpoint.COMPLETIONS: b"prompt", Endpoint.EMBEDDINGS: b"input"}[endpoint]
    with pytest.raises(BadRequest, match="empty") as refused:
        peek(endpoint, b'{"model":"m","%b":""}' % field)
    assert (refused.value.param, refused.value.code) == (field.decode(), "empty_string")
    assert peek(endpoint, b'{"model":"m","%b":" "}' % field).model == "m"


@pytest.mark.parametrize("empty", [b"[]", b"[ ]", b"[" + b"\n\t " * 50 + b"]"])
def test_an_empty_list_is_empty_however_it_is_spaced(empty):
    with pytest.raises(BadRequest, match="empty") as refused:
        peek(Endpoint.CHAT, b'{"model":"m","messages":' + empty + b"}")
    assert refused.value.param == "messages"


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"model":"m","x":' + b'{"a":' * 50_000])
def test_nesting_without_end_is_the_clients_mistake(body):
    with pytest.raises(BadRequest):
        peek(Endpoint.CHAT, body)


@pytest.mark.parametrize(
    ("fields", "choices"),
    [
        ({"prompt": "Once"}, 1),
        ({"prompt": "Once", "n": 3}, 3),
        ({"prompt": ["Once", "Twice"]}, 2),
        ({"prompt": [[1, 2], [3], [4]], "n": 2}, 6),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": "[x]"}, 1),
    ],
)
def test_answers_asked_for(fields, choices):
    body = msgspec.json.encode({"model": "m", **fields})
    assert expected_choices(peek(Endpoint.COMPLETIONS, body)) == choices


@pytest.mark.parametrize("bad", [b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xe2\x82"])
@pytest.mark.parametrize("where", [b'"x":"%s",', b'"%s":1,'])
def test_what_is_not_looked_at_must_still_be_text(bad, where):
    with pytest.raises(BadRequest, match="not valid JSON") as refused:
        peek(Endpoint.CHAT, b'{"model":"m",' + where % bad + CHAT + b"}")
    assert refused.value.code == "invalid_json"
