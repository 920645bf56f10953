import pytest

from backends.inprocess.tool_call_json import ObjectEnd, WrittenCall, is_object, parse_json_call

DEEP = "[" * 100_000 + "]" * 100_000


@pytest.mark.parametrize("size", [1, 2, 5, 100])
@pytest.mark.parametrize(
    "written", ["{}", '{"a": [{"b": 1}]}', '{"}": "{"}', '{"a": "\\\\"}', '{"a": "\\"}"}']
)
def test_where_an_object_ends(written, size):
    text = written + "} more"
    end, at, scanner = -1, 0, ObjectEnd()
    while end < 0:
        end = scanner.feed(text[at : at + size])
        at += size
    assert at - size + end == len(written)


@pytest.mark.parametrize("written", ["{", '{"a": "}', '{"a": "\\', "{[}", '{"a": "\\"}'])
def test_what_has_not_ended(written):
    assert ObjectEnd().feed(written) == -1


@pytest.mark.parametrize(
    ("text", "call"),
    [
        ('{"name": "f"}', ("f", "{}")),
        ('{"name": "f", "arguments": {"a" : 1.0}}', ("f", '{"a" : 1.0}')),
        ('\n{"parameters": {}, "name": "f", "id": 1}\n', ("f", "{}")),
        ('{"name": "f", "arguments": "{\\"a\\": 1}"}', ("f", '{"a": 1}')),
    ],
)
def test_calls(text, call):
    assert parse_json_call(text) == WrittenCall(*call)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "nonsense",
        "[]",
        '{"arguments": {}}',
        '{"name": 1}',
        '{"name": "f", "arguments": [1]}',
        '{"name": "f", "arguments": null}',
        '{"name": "f", "arguments": "x"}',
        '{"name": "f", "arguments": "[1]"}',
        '{"name": "f", "arguments": {"a": }}',
        '{"name": "f", "arguments": {}} and more',
        '{"name": "f", "arguments": {"a": "\ud800"}}',
        f'{{"name": "f", "arguments": {{"a": {DEEP}}}}}',
        f'{{"name": "f", "arguments": {DEEP}}}',
    ],
)
def test_what_is_no_call(text):
    with pytest.raises(ValueError, match="no tool call"):
        parse_json_call(text)


@pytest.mark.parametrize(
    ("text", "known"), [("{}", True), ('{"a": 01}', False), ("[]", False), ("\ud800", False)]
)
def test_objects(text, known):
    assert is_object(text) is known
