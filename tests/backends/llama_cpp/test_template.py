import re

import jinja2
import pytest

from backends.llama_cpp.template import ChatTemplate

ASSISTANT = {"role": "assistant", "content": "1, 2,"}
HELLO = {"role": "user", "content": "Hello."}
CHATML = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}</>{% endfor %}"
    "{% if add_generation_prompt %}<assistant>{% endif %}"
)


def made(source):
    return ChatTemplate(source, bos_token="<s>", eos_token="</s>")


def render(source, *messages, **more):
    return made(source).render(list(messages or [HELLO]), **more)


def test_a_conversation_ends_where_the_assistant_begins():
    assert render(CHATML) == "<user>Hello.</><assistant>"
    assert render(CHATML, add_generation_prompt=False) == "<user>Hello.</>"


def test_tokens_tools_and_variables_are_there():
    source = "{{ bos_token }}{{ tools | tojson }}{{ enable_thinking }}{{ eos_token }}"
    text = render(source, tools=[{"name": "é<"}], variables={"enable_thinking": False})
    assert text == '<s>[{"name": "é<"}]False</s>'


def test_a_variable_takes_no_place_of_what_the_template_is_given():
    variables = {"messages": "x", "bos_token": "y", "tools": "z"}
    assert render("{{ messages | length }}{{ bos_token }}", variables=variables) == "1<s>"


@pytest.mark.parametrize(
    "source",
    [
        "{{ raise_exception('no system prompt') }}",
        "{{ messages[5].content }}",
        "{{ nothing.at.all }}",
        "{{ 1 // 0 }}",
    ],
)
def test_a_template_may_refuse(source):
    with pytest.raises((jinja2.TemplateError, ZeroDivisionError)):
        render(source)


@pytest.mark.parametrize(
    "source",
    [
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ messages.append(1) }}",
        "{{ raise_exception.__globals__.json }}",
        "{% include '/etc/passwd' %}",
    ],
)
def test_a_template_gets_at_nothing_else(source):
    with pytest.raises((jinja2.TemplateError, TypeError)):
        render(source)


def test_what_is_no_template_is_told_when_it_is_compiled():
    with pytest.raises(jinja2.TemplateError):
        made("{% for m in %}")


def test_what_transformers_offers_is_there():
    assert re.fullmatch(r"\d{4}", render("{{ strftime_now('%Y') }}"))
    source = "{% for m in messages %}{% generation %}{{ m.content }}{% endgeneration %}"
    source += "{% break %}{% endfor %}"
    assert render(source) == "Hello."


class TestContinuation:
    def test_the_prompt_ends_with_the_last_message(self):
        text = render(
            CHATML, HELLO, ASSISTANT, continue_final_message=True, add_generation_prompt=False
        )
        assert text == "<user>Hello.</><assistant>1, 2,"

    def test_also_where_a_message_has_parts(self):
        parts = {"role": "assistant", "content": [{"type": "text", "text": "1, "}]}
        content = "{{ m.content if m.content is string else m.content[0].text }}"
        source = "{% for m in messages %}" + content + "|{% endfor %}"
        text = render(source, HELLO, parts, continue_final_message=True)
        assert text == "Hello.|1, "

    def test_a_template_that_drops_the_message_is_told(self):
        with pytest.raises(ValueError, match="leaves out"):
            render("{{ messages[0].content }}", HELLO, ASSISTANT, continue_final_message=True)
