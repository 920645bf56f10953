import json

import pytest

from backends.base import RequestRefused
from backends.inprocess.params import parse_chat

HELLO = {"role": "user", "content": "Hello."}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {"type": "object"}}}


@pytest.fixture
def prompts(model, vocabulary):
    from backends.llama_cpp.prompts import GgufPrompts

    return GgufPrompts(model, vocabulary)


@pytest.fixture
def shown(prompts):
    def shown(*messages, **fields):
        body = json.dumps({"messages": messages, **fields}).encode()
        return prompts.decode_all(prompts.chat(parse_chat(body)).tokens)

    return shown


@pytest.mark.parametrize(
    ("messages", "fields"),
    [
        ([HELLO], {}),
        ([{"role": "system", "content": "Be kind."}, HELLO], {}),
        ([HELLO], {"tools": [TOOL]}),
        ([HELLO], {"add_generation_prompt": False}),
        ([{"role": "user", "content": [{"type": "text", "text": "Hé"}]}], {}),
        ([HELLO, {"role": "assistant", "content": "Hi,"}], {"continue_final_message": True}),
        (
            [
                HELLO,
                {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [
                        {"id": "1", "type": "function",
                         "function": {"name": "f", "arguments": '{"a": [1, "é"]}'}}
                    ],
                },
                {"role": "tool", "tool_call_id": "1", "content": "done"},
            ],
            {"tools": [TOOL]},
        ),
    ],
)  # fmt: skip
def test_a_prompt_is_the_one_that_transformers_makes(prompts, model_dir, messages, fields):
    from mlx_lm.tokenizer_utils import load as load_tokenizer

    from backends.mlx.chat import TemplatePrompts

    chat = parse_chat(json.dumps({"messages": messages, **fields}).encode())
    assert prompts.chat(chat) == TemplatePrompts(load_tokenizer(model_dir)).chat(chat)


def test_a_conversation_ends_where_the_assistant_begins(shown):
    assert shown(HELLO) == "<|im_start|>user\nHello.<|im_end|>\n<|im_start|>assistant\n"


def test_a_template_that_refuses_says_why(prompts, monkeypatch):
    from backends.llama_cpp.template import ChatTemplate

    source = "{{ raise_exception('roles must alternate') }}"
    refusing = ChatTemplate(source, bos_token="", eos_token="")
    monkeypatch.setattr(prompts, "_template", refusing)
    with pytest.raises(RequestRefused, match="roles must alternate") as caught:
        prompts.chat(parse_chat(json.dumps({"messages": [HELLO]}).encode()))
    assert (caught.value.status, caught.value.param) == (400, "messages")


def test_half_a_character_names_its_field(prompts):
    for param in ("prompt", "input"):
        with pytest.raises(RequestRefused) as caught:
            prompts.text("\ud800", param=param)
        assert caught.value.param == param
