import pytest

from backends.base import RequestRefused
from backends.inprocess.messages import for_template, takes_parts

PARTS = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]


def test_text_stays_as_it_is():
    message = {"role": "user", "content": "a", "name": "Tom"}
    assert for_template(message, takes_parts=False) == message


def test_parts_become_text_or_parts_of_one_kind():
    message = {"role": "user", "content": PARTS}
    assert for_template(message, takes_parts=False)["content"] == "a\nb"
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert for_template(message, takes_parts=True)["content"] == parts
    assert for_template({**message, "content": PARTS[:1]}, takes_parts=True)["content"] == "a"
    assert message["content"] is PARTS, "what was asked is not changed"


def test_arguments_become_objects():
    call = {"id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    adapted = for_template(message, takes_parts=False)["tool_calls"][0]
    assert adapted == {"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}
    assert call["function"]["arguments"] == '{"a": 1}'
    broken = {**call, "function": {"name": "f", "arguments": "{"}}
    with pytest.raises(RequestRefused):
        for_template({**message, "tool_calls": [broken]}, takes_parts=False)


def test_thinking_has_the_name_that_templates_know():
    message = {"role": "assistant", "content": "a", "reasoning": "b"}
    assert for_template(message, takes_parts=False)["reasoning_content"] == "b"
    both = {**message, "reasoning_content": "c"}
    assert for_template(both, takes_parts=False)["reasoning_content"] == "c"


def test_whether_a_template_takes_parts_is_tried():
    assert takes_parts(lambda messages: "".join(p["text"] for p in messages[0]["content"]))
    assert not takes_parts(lambda messages: str(messages[0]["content"]))
    assert not takes_parts(lambda messages: messages[0]["content"] + "x")
