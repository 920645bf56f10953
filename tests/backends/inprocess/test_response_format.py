import msgspec
import pytest

from backends.base import RequestRefused
from backends.inprocess.constraint import MAX_SCHEMA
from backends.inprocess.response_format import ResponseFormat


def answer(body):
    return msgspec.json.decode(body, type=ResponseFormat).answer


def test_text_is_free():
    assert answer(b'{"type": "text"}') is None


def test_an_object_is_any_object():
    assert answer(b'{"type": "json_object"}').schema == '{"type":"object"}'


def test_schemas_that_differ_in_white_space_are_the_same():
    first = answer(b'{"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": 1}}}')
    again = answer(b'{"type": "json_schema", "json_schema": {"schema": {"type":1},"strict":true}}')
    assert first == again
    assert first.param == "response_format.json_schema.schema"


@pytest.mark.parametrize(
    "schema", [b"7", b"[]", b"null", b"false", b'"x"', b'{"enum": ["%s"]}' % (b"x" * MAX_SCHEMA)]
)
def test_what_is_no_schema(schema):
    with pytest.raises(RequestRefused) as caught:
        answer(b'{"type": "json_schema", "json_schema": {"schema": %s}}' % schema)
    assert caught.value.param == "response_format.json_schema.schema"
    assert len(caught.value.message) < 400
