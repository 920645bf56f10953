from __future__ import annotations

import json

import pytest

from gateway.errors import BadRequest, Unsupported
from gateway.wire.translate.responses_request import ResponsesTranslation

TOOL = {"type": "function", "name": "f", "description": "d", "parameters": {}, "strict": True}
CALL = {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"}
HI = {"role": "user", "content": "Hi"}


def chat(**fields):
    asked = {"model": "m", "input": "Hi", **fields}
    return json.loads(ResponsesTranslation(json.dumps(asked).encode()).body)


def refused(kind=Unsupported, **fields):
    with pytest.raises(kind) as caught:
        chat(**fields)
    return caught.value


def turns(*items, **fields):
    return chat(input=list(items), **fields)["messages"]


def test_what_both_dialects_have_stays_as_it_is():
    same = {"temperature": 0.5, "top_p": 0.9, "seed": 7, "user": "u", "metadata": {"a": "b"}}
    assert chat(**same) == {"model": "m", "messages": [HI], **same}


def test_names_that_differ():
    said = chat(
        instructions="Be.",
        max_output_tokens=9,
        reasoning={"effort": "low", "summary": "auto"},
        text={"format": {"type": "json_object"}, "verbosity": "low"},
        stream=True,
        stream_options={"include_obfuscation": False},
    )
    assert said == {
        "model": "m",
        "messages": [{"role": "system", "content": "Be."}, HI],
        "max_tokens": 9,
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
        "verbosity": "low",
        "stream": True,
        "stream_options": {"include_usage": True},
    }


def test_what_is_so_anyway_needs_no_saying():
    same = {"store": False, "background": False, "truncation": "disabled", "max_tool_calls": 3}
    assert chat(**same, include=["reasoning.encrypted_content"]) == chat()


def test_a_schema():
    schema = {"type": "object"}
    wanted = {"type": "json_schema", "name": "p", "schema": schema, "strict": True}
    assert chat(text={"format": wanted})["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "p", "schema": schema, "strict": True},
    }
    assert "response_format" not in chat(text={"format": {"type": "text"}})


def test_log_probabilities():
    include = ["message.output_text.logprobs"]
    assert chat(include=include)["logprobs"] is True
    said = chat(include=include, top_logprobs=2)
    assert (said["logprobs"], said["top_logprobs"]) == (True, 2)
    assert chat(top_logprobs=0) == chat()


def test_roles():
    said = turns({"role": "developer", "content": "Dev."}, HI, instructions="Be.")
    assert said == [{"role": "system", "content": "Be.\n\nDev."}, HI]
    assert turns(HI, {"role": "developer", "content": "Later."})[1]["role"] == "system"


def test_content():
    (said,) = turns(
        {
            "type": "message",
            "role": "user",
            "content": [
                {"type": "input_text", "text": "See"},
                {"type": "input_image", "image_url": "data:x", "detail": "low"},
                {"type": "input_audio", "input_audio": {"data": "A", "format": "wav"}},
            ],
        }
    )
    assert said["content"] == [
        {"type": "text", "text": "See"},
        {"type": "image_url", "image_url": {"url": "data:x", "detail": "low"}},
        {"type": "input_audio", "input_audio": {"data": "A", "format": "wav"}},
    ]


def test_what_the_assistant_thinks_says_and_calls_is_one_message():
    said = turns(
        HI,
        {"type": "reasoning", "id": "r", "summary": [{"type": "summary_text", "text": "hm"}]},
        {"role": "assistant", "content": [{"type": "output_text", "text": "Let me see"}]},
        CALL,
        {**CALL, "call_id": "c2"},
        {"type": "function_call_output", "call_id": "c1", "output": "18"},
        {
            "type": "function_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "19"}],
        },
    )
    assert said[1]["reasoning_content"] == "hm"
    assert said[1]["content"] == "Let me see"
    assert [call["id"] for call in said[1]["tool_calls"]] == ["c1", "c2"]
    assert said[1]["tool_calls"][0] == {
        "id": "c1",
        "type": "function",
        "function": {"name": "f", "arguments": "{}"},
    }
    assert said[2:] == [
        {"role": "tool", "tool_call_id": "c1", "content": "18"},
        {"role": "tool", "tool_call_id": "c2", "content": "19"},
    ]


def test_thoughts_that_only_their_maker_can_read_are_left_out():
    said = turns(HI, {"type": "reasoning", "id": "r", "summary": [], "encrypted_content": "x"}, HI)
    assert said == [HI, HI]


def test_two_messages_of_the_assistant_stay_two():
    one = {"role": "assistant", "content": "One"}
    assert turns(HI, one, one) == [HI, one, one]


def test_only_a_message_that_is_not_complete_is_gone_on_with():
    begun = {"role": "assistant", "content": "The"}
    assert "continue_final_message" not in chat(input=[HI, begun])
    said = chat(input=[HI, {**begun, "status": "incomplete"}])
    assert (said["continue_final_message"], said["add_generation_prompt"]) == (True, False)


def test_tools():
    said = chat(tools=[TOOL], tool_choice={"type": "function", "name": "f"})
    function = {"name": "f", "description": "d", "parameters": {}, "strict": True}
    assert said["tools"] == [{"type": "function", "function": function}]
    assert said["tool_choice"] == {"type": "function", "function": {"name": "f"}}
    for choice in ("auto", "none", "required"):
        assert chat(tools=[TOOL], tool_choice=choice)["tool_choice"] == choice


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL, {"type": "web_search"}]}, "tools[1].type"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools[0].type"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"previous_response_id": "resp_1"}, "previous_response_id"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"store": True}, "store"),
        ({"background": True}, "background"),
        ({"truncation": "auto"}, "truncation"),
        ({"context_management": [{}]}, "context_management"),
        ({"n": 2}, "n"),
        ({"input": [{"type": "item_reference", "id": "x"}]}, "input[0]"),
        (
            {"input": [{"role": "user", "content": [{"type": "input_file"}]}]},
            "input[0].content[0]",
        ),
        (
            {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
            "input[0].content[0].file_id",
        ),
    ],
)
def test_what_a_chat_cannot_say_is_refused_by_name(fields, param):
    assert refused(**fields).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"input": None}, "input"),
        ({"input": 7}, "input"),
        ({"input": []}, "input"),
        ({"input": [{"role": "robot", "content": "x"}]}, "input[0].role"),
        ({"input": [{"role": "user"}]}, "input[0].content"),
        ({"input": [{**CALL, "arguments": {}}]}, "input[0].arguments"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"text": {"format": {"type": "xml"}}}, "text.format"),
        ({"include": "all"}, "include"),
        ({"instructions": ["x"]}, "instructions"),
    ],
)
def test_mistakes_are_the_clients(fields, param):
    error = refused(BadRequest, **fields)
    assert not isinstance(error, Unsupported)
    assert error.param == param
