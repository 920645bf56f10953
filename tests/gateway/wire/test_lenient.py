from __future__ import annotations

from typing import Any

import msgspec
import pytest

from backends.malformed import MALFORMED
from gateway.wire.lenient import decoder


class Count(msgspec.Struct):
    tokens: int | None = None


class Part(msgspec.Struct):
    index: int | None = None
    text: Any = None


class Whole(msgspec.Struct):
    name: str = ""
    parts: list[Part] | None = None
    count: Count | None = None


decode = decoder(Whole)


@pytest.mark.parametrize(
    ("data", "read"),
    [
        (b'{"name":"n","x":1}', Whole("n")),
        (b'{"name":5,"count":{"tokens":3}}', Whole("", None, Count(3))),
        (b'{"name":"n","count":{"tokens":12.0}}', Whole("n", None, Count(12))),
        (b'{"name":"n","count":{"tokens":"12"}}', Whole("n", None, Count(12))),
        (b'{"name":"n","count":{"tokens":1.5}}', Whole("n", None, Count(None))),
        (b'{"name":"n","count":{"tokens":{}}}', Whole("n", None, Count(None))),
        (b'{"name":"n","count":[1]}', Whole("n")),
        (b'{"name":null}', Whole()),
        (
            b'{"parts":[{"index":"x","text":"t"},7,{"index":1}]}',
            Whole("", [Part(None, "t"), Part(1)]),
        ),
        (b'{"parts":{"index":0}}', Whole()),
        (b"[]", Whole()),
        (b"7", Whole()),
        (b"null", Whole()),
    ],
)
def test_what_does_not_fit_is_as_if_it_were_not_there(data, read):
    assert decode(data) == read


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b'{"name":5', b'{"name":"\xff"}', b'{"name":5,"x":' + b"[" * 100_000, b"[" * 9999],
)
def test_what_is_no_json_is_malformed_and_not_of_the_wrong_type(data):
    with pytest.raises(MALFORMED) as caught:
        decode(data)
    assert not isinstance(caught.value, msgspec.ValidationError)
