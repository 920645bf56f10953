from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from backends.base import RequestRefused
from backends.inprocess.refusals import Code, check_range, of_bytes, of_decoder, shown


class Inner(msgspec.Struct):
    on: bool
    kind: Literal["a", "b"] = "a"


class Body(msgspec.Struct):
    items: list[dict[str, Any]]
    count: Annotated[int, Meta(ge=1, le=9)] | None = None
    share: Annotated[float, Meta(ge=-0.5, le=1)] | None = None
    stop: str | list[str] | None = None
    bias: dict[str, float] | None = None
    inner: Inner | None = None


def refusal_of(body):
    with pytest.raises(msgspec.ValidationError) as caught:
        msgspec.json.decode(body, type=Body)
    return of_decoder(caught.value)


@pytest.mark.parametrize(
    ("body", "param", "message", "code"),
    [
        ("[]", None, "the request body must be an object, not a list", "invalid_type"),
        ("{}", "items", "`items` is missing", "missing_required_parameter"),
        ('{"items":null}', "items", "`items` must be a list, not null", "invalid_type"),
        ('{"items":[{},7]}', "items[1]", "must be an object, not a whole number", "invalid_type"),
        ('{"items":[],"count":"1"}', "count", "must be a whole number, not a text", "invalid_type"),
        (
            '{"items":[],"count":1.5}',
            "count",
            "must be a whole number, not a number",
            "invalid_type",
        ),
        (
            '{"items":[],"count":0}',
            "count",
            "`count` must be at least 1",
            "integer_below_min_value",
        ),
        (
            '{"items":[],"count":10}',
            "count",
            "`count` must be at most 9",
            "integer_above_max_value",
        ),
        ('{"items":[],"share":-1}', "share", "must be at least -0.5", "decimal_below_min_value"),
        ('{"items":[],"share":2}', "share", "`share` must be at most 1", "decimal_above_max_value"),
        ('{"items":[],"share":1e999}', "share", "is not accepted: number out of", "invalid_value"),
        ('{"items":[],"stop":7}', "stop", "`stop` must be a text or a list, not", "invalid_type"),
        ('{"items":[],"stop":["a",[]]}', "stop[1]", "must be a text, not a list", "invalid_type"),
        (
            '{"items":[],"bias":{"1":"x"}}',
            "bias",
            "every value of `bias` must be a number, not a text",
            "invalid_type",
        ),
        (
            '{"items":[],"inner":{}}',
            "inner.on",
            "`inner.on` is missing",
            "missing_required_parameter",
        ),
        (
            '{"items":[],"inner":{"on":1}}',
            "inner.on",
            "`inner.on` must be true or false",
            "invalid_type",
        ),
        (
            '{"items":[],"inner":{"on":true,"kind":"c"}}',
            "inner.kind",
            "may not be 'c'",
            "invalid_value",
        ),
    ],
)
def test_the_decoders_words_become_ours_with_the_path(body, param, message, code):
    error = refusal_of(body)
    assert (error.status, error.param, error.code) == (400, param, code)
    assert message in error.message
    assert "$" not in error.message


def test_what_the_decoder_says_of_values_is_cut():
    error = refusal_of('{"items":[],"inner":{"on":true,"kind":"%s"}}' % ("x" * 100_000))
    assert len(error.message) < 200


def test_words_that_are_not_known_come_through():
    error = of_decoder(msgspec.ValidationError("Something new - at `$.a.b`"))
    assert (error.param, error.message) == ("a.b", "`a.b` is not accepted: something new")


def test_bytes_that_are_no_json():
    with pytest.raises(msgspec.DecodeError) as caught:
        msgspec.json.decode(b"{")
    error = of_bytes(caught.value)
    assert (error.status, error.param, error.code) == (400, None, Code.INVALID_JSON)


@pytest.mark.parametrize("value", [None, 1, 5])
def test_numbers_within_their_bounds(value):
    check_range("n", value, least=1, most=5)


@pytest.mark.parametrize(
    ("value", "code"),
    [(0, Code.INTEGER_TOO_LOW), (6, Code.INTEGER_TOO_HIGH), (10**5000, Code.INTEGER_TOO_HIGH)],
    ids=["low", "high", "huge"],
)
def test_numbers_beyond_them(value, code):
    with pytest.raises(RequestRefused) as caught:
        check_range("n", value, least=1, most=5)
    assert (caught.value.param, caught.value.code) == ("n", code)
    assert len(caught.value.message) < 200


@pytest.mark.parametrize(
    "value",
    ["x" * 10**6, ["x" * 10**6], {"x": "y" * 10**6}, 10**5000, "\x00" * 100],
    ids=["text", "list", "object", "number", "escapes"],
)
def test_little_is_shown(value):
    assert len(shown(value)) <= 65
