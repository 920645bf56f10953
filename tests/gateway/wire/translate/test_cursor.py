from __future__ import annotations

import pytest

from gateway.errors import BadRequest, Unsupported
from gateway.wire.translate.cursor import Cursor

NESTED = Cursor({"a": [{"b": 1, "c": None}]})


def raises(use, kind=BadRequest):
    with pytest.raises(kind) as caught:
        use()
    return caught.value


@pytest.mark.parametrize("body", [b"", b"{", b"[" * 5000, b'"\xff"'])
def test_what_is_no_json_is_said(body):
    assert raises(lambda: Cursor.over(body)).code == "invalid_json"


def test_a_body_must_be_an_object():
    error = raises(lambda: Cursor.over(b"[]"))
    assert (error.message, error.param) == ("the request body must be an object", None)


def test_an_error_names_the_very_place():
    item = NESTED.need("a").items()[0]
    error = raises(lambda: item.need("b").text())
    assert error.param == "a[0].b"
    assert error.message == "`a[0].b` must be a text"


@pytest.mark.parametrize(
    ("value", "use"),
    [(1, Cursor.text), ("1", Cursor.number), (True, Cursor.number), ([], Cursor.fields)],
)
def test_types_are_checked(value, use):
    assert raises(lambda: use(Cursor(value, "x"))).code == "invalid_type"


def test_null_is_as_good_as_absent():
    item = NESTED.need("a").items()[0]
    assert item.get("c") is None
    assert item.get("d") is None
    assert raises(lambda: item.need("c")).code == "missing_required_parameter"


def test_a_type_may_have_a_default():
    assert Cursor({}).kind("message") == "message"
    assert Cursor({"type": "x"}).kind("message") == "x"


def test_unwanted_fields_are_refused_by_name_unless_they_are_null():
    cursor = Cursor({"a": 1, "b": None})
    cursor.without(("b", "c"), "never")
    error = raises(lambda: cursor.without(("b", "a"), "never"), Unsupported)
    assert (error.param, error.message, error.code) == ("a", "`a`: never", "unsupported")
