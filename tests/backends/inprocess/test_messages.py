import pytest

from backends.base import RequestRefused
from backends.inprocess.messages import ContentForm, content_form, for_template

TEXT, BOTH = ContentForm(parts=False), ContentForm(parts=True)
PARTS_ONLY = ContentForm(parts=True, texts=False)
PARTS = [{"type": "text", "text": "a"}, {"type": "refusal", "refusal": "b"}]


def test_text_stays_as_it_is():
    message = {"role": "user", "content": "a", "name": "Tom"}
    assert for_template(message, TEXT) == message


def test_parts_become_text_or_parts_of_one_kind():
    message = {"role": "user", "content": PARTS}
    assert for_template(message, TEXT)["content"] == "a\nb"
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]
    assert for_template(message, BOTH)["content"] == parts
    assert for_template({**message, "content": PARTS[:1]}, BOTH)["content"] == "a"
    assert message["content"] is PARTS, "what was asked is not changed"


def test_arguments_become_objects():
    call = {"id": "1", "function": {"name": "f", "arguments": '{"a": 1}'}}
    message = {"role": "assistant", "content": None, "tool_calls": [call]}
    adapted = for_template(message, TEXT)["tool_calls"][0]
    assert adapted == {"id": "1", "function": {"name": "f", "arguments": {"a": 1}}}
    assert call["function"]["arguments"] == '{"a": 1}'
    broken = {**call, "function": {"name": "f", "arguments": "{"}}
    with pytest.raises(RequestRefused):
        for_template({**message, "tool_calls": [broken]}, TEXT)


def test_thinking_has_the_name_that_templates_know():
    message = {"role": "assistant", "content": "a", "reasoning": "b"}
    assert for_template(message, TEXT)["reasoning_content"] == "b"
    both = {**message, "reasoning_content": "c"}
    assert for_template(both, TEXT)["reasoning_content"] == "c"


def test_what_a_template_takes_is_tried():
    def parts(messages):
        return "".join(part["text"] for part in messages[0]["content"])

    def either(messages):
        content = messages[0]["content"]
        return content if isinstance(content, str) else parts(messages)

    def overlooks_texts(messages):
        return "".join(part["text"] for part in messages[0]["content"] if part in PARTS_TRIED)

    assert content_form(parts) == content_form(overlooks_texts) == PARTS_ONLY
    assert content_form(either) == BOTH
    assert content_form(lambda messages: str(messages[0]["content"])) == TEXT
    assert content_form(lambda messages: messages[0]["content"] + "x") == TEXT
    assert content_form(lambda messages: 1 / 0) == TEXT


PARTS_TRIED = [{"type": "text", "text": text} for text in ("first-part", "second-part")]


def test_a_template_of_parts_only_gets_nothing_else():
    text = [{"type": "text", "text": "a"}]
    assert for_template({"role": "user", "content": "a"}, PARTS_ONLY)["content"] == text
    assert for_template({"role": "user", "content": text}, PARTS_ONLY)["content"] == text
    calls = {"role": "assistant", "content": None, "tool_calls": []}
    assert for_template(calls, PARTS_ONLY)["content"] == []
    assert "content" not in for_template({"role": "assistant"}, PARTS_ONLY)


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}


def test_an_image_is_a_part_without_its_data():
    message = {"role": "user", "content": [IMAGE, *PARTS]}
    kinds = [part["type"] for part in for_template(message, BOTH)["content"]]
    assert kinds == ["image", "text", "text"]
    alone = for_template({"role": "tool", "content": [IMAGE]}, BOTH)
    assert alone["content"] == [{"type": "image"}]
    assert message["content"][0] is IMAGE, "what was asked is not changed"


def test_in_a_text_an_image_is_what_the_model_calls_it():
    message = {"role": "user", "content": [IMAGE, *PARTS]}
    form = ContentForm(parts=False, image="<image>")
    assert for_template(message, form)["content"] == "<image>\na\nb"
