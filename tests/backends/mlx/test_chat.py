import inspect
import json
import shutil

import pytest
from transformers import PreTrainedTokenizerBase
from transformers.utils.chat_template_utils import render_jinja_template

from backends.base import RequestRefused
from backends.inprocess.params import parse_chat
from backends.mlx.chat import TemplatePrompts
from backends.mlx.importing import import_mlx

HELLO = {"role": "user", "content": "Hello."}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture(scope="module")
def load(tmp_path_factory, model_dir):
    """The prompts of the model that ships, with another template if one is given."""
    import_mlx()
    from mlx_lm.tokenizer_utils import load as load_tokenizer

    def prompts(template=...):
        directory = model_dir
        if template is not ...:
            directory = tmp_path_factory.mktemp("model")
            for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
                shutil.copy(model_dir / name, directory)
            config = json.loads((directory / "tokenizer_config.json").read_text())
            config["chat_template"] = template
            (directory / "tokenizer_config.json").write_text(json.dumps(config))
        tokenizer = load_tokenizer(directory)
        made = TemplatePrompts(tokenizer)
        made.shown = lambda *messages, **fields: tokenizer.decode(
            made.chat(parse_chat(json.dumps({"messages": messages, **fields}).encode())).tokens
        )
        return made

    return prompts


@pytest.fixture(scope="module")
def prompts(load):
    return load()


def test_a_conversation_ends_where_the_assistant_begins(prompts):
    assert prompts.shown(HELLO) == "<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n"


def test_arguments_that_this_thread_cannot_follow_are_refused(prompts):
    call = {"function": {"name": "f", "arguments": "[" * 5000 + "]" * 5000}}
    chat = parse_chat(json.dumps({"messages": [HELLO]}).encode())
    chat.messages.append({"role": "assistant", "tool_calls": [call]})
    with pytest.raises(RequestRefused) as caught:
        prompts.chat(chat)
    assert (caught.value.status, caught.value.param) == (400, "messages")


def test_a_last_message_of_the_assistant_is_a_finished_turn(prompts):
    shown = prompts.shown(HELLO, {"role": "assistant", "content": "Hi"})
    assert shown.endswith("Hi<|im_end|>\n<|im_start|>assistant\n")


def test_a_last_message_can_be_continued(prompts):
    shown = prompts.shown(
        HELLO, {"role": "assistant", "content": "Hi"}, continue_final_message=True
    )
    assert shown.endswith("<|im_start|>assistant\nHi")


def test_without_a_generation_prompt(prompts):
    assert prompts.shown(HELLO, add_generation_prompt=False).endswith("Hello.<|im_end|>\n")


def test_tools_and_calls_are_written_as_the_template_says(prompts):
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"x":"é"}'}}
    shown = prompts.shown(
        HELLO,
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": "7"},
        tools=[TOOL],
    )
    assert 'f: {"type": "object"}' in shown
    assert '<tool_call>\n{"name": "f", "arguments": {"x": "é"}}\n</tool_call>' in shown
    assert "<|im_start|>tool\n7<|im_end|>" in shown


def test_content_in_parts(load):
    parts = [{"type": "text", "text": text} for text in ("one", "two")]
    message = {"role": "user", "content": parts}
    reading = load(
        "{% for m in messages %}{% for p in m.content %}[{{ p.text }}]{% endfor %}{% endfor %}"
    )
    assert reading.shown(message) == "[one][two]"
    joining = load("{% for m in messages %}{{ '[' + m.content + ']' }}{% endfor %}")
    assert joining.shown(message) == "[one\ntwo]"
    printing = load("{% for m in messages %}{{ m.content }}{% endfor %}")
    assert printing.shown(message) == "one\ntwo"


def test_variables_for_the_template(load):
    thinking = load("{{ messages[0].content }} {{ enable_thinking }} {{ mood }}")
    shown = thinking.shown(HELLO, chat_template_kwargs={"enable_thinking": True, "mood": "glad"})
    assert shown == "Hello. True glad"


def test_no_name_that_the_renderer_takes_is_a_variable(prompts):
    """Whatever transformers calls its parameters: none may be set by a client, nor break it."""
    renders = (PreTrainedTokenizerBase.apply_chat_template, render_jinja_template)
    taken = {name for one in renders for name in inspect.signature(one).parameters} - {"kwargs"}
    for name in taken | {"messages", "bos_token"}:
        with pytest.raises(RequestRefused) as caught:
            prompts.shown(HELLO, chat_template_kwargs={name: []})
        assert caught.value.param == f"chat_template_kwargs.{name}"


def test_variables_that_break_the_template_are_blamed_and_not_the_messages(load):
    strict = load("{{ messages[0].content }}{% for one in moods or [] %}{{ one }}{% endfor %}")
    with pytest.raises(RequestRefused) as caught:
        strict.shown(HELLO, chat_template_kwargs={"moods": 7})
    assert (caught.value.status, caught.value.param) == (400, "chat_template_kwargs")


def test_what_the_template_refuses_is_the_clients_fault(load):
    strict = load("{{ raise_exception('Roles must alternate') }}")
    with pytest.raises(RequestRefused, match="Roles must alternate") as caught:
        strict.shown(HELLO)
    assert (caught.value.status, caught.value.param) == (400, "messages")


def test_without_a_template_there_is_no_chat(load):
    with pytest.raises(RequestRefused, match="no chat template") as caught:
        load(None).shown(HELLO)
    assert caught.value.param == "messages"


def test_half_a_character_is_no_text(prompts):
    with pytest.raises(RequestRefused) as caught:
        prompts.text("\ud800")
    assert (caught.value.status, caught.value.param) == (400, "prompt")


@pytest.mark.parametrize("text", ["Once upon a time", "é 😀\n\n  x", ""])
def test_text_comes_back_from_its_tokens(prompts, text):
    assert prompts.decode(prompts.text(text)) == text


def test_special_tokens_are_no_text(prompts):
    assert prompts.decode(prompts.text("a<|im_end|>b")) == "ab"
