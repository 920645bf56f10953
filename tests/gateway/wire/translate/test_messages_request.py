from __future__ import annotations

import json

import pytest

from gateway.errors import BadRequest, Unsupported
from gateway.wire.translate.messages_request import MessagesTranslation

HI = [{"role": "user", "content": "Hi"}]
TOOL = {"name": "f", "description": "d", "input_schema": {"type": "object"}}


def chat(**fields):
    asked = {"model": "m", "max_tokens": 9, "messages": HI, **fields}
    return json.loads(MessagesTranslation(json.dumps(asked).encode()).body)


def refused(kind=Unsupported, **fields):
    with pytest.raises(kind) as caught:
        chat(**fields)
    return caught.value


def turns(*messages, **fields):
    return chat(messages=list(messages), **fields)["messages"]


def user(*blocks):
    return {"role": "user", "content": list(blocks)}


def assistant(*blocks):
    return {"role": "assistant", "content": list(blocks)}


def text(said):
    return {"type": "text", "text": said}


def test_what_both_dialects_have_stays_as_it_is():
    same = {"temperature": 0.5, "top_p": 0.9, "top_k": 3, "seed": 7, "chat_template_kwargs": {}}
    assert chat(**same) == {"model": "m", "max_tokens": 9, "messages": HI, **same}


def test_a_stream_is_asked_for_its_usage():
    assert chat(stream=True)["stream_options"] == {"include_usage": True}
    assert "stream_options" not in chat(stream=False)


def test_names_that_differ():
    said = chat(
        stop_sequences=["a", "b"],
        metadata={"user_id": "u"},
        output_config={"effort": "max"},
        thinking={"type": "disabled"},
    )
    assert said["stop"] == ["a", "b"]
    assert said["user"] == "u"
    assert said["reasoning_effort"] == "high"
    assert said["chat_template_kwargs"] == {"enable_thinking": False}
    assert not {"stop_sequences", "metadata", "output_config", "thinking"} & set(said)


def test_what_is_asked_of_the_service_says_nothing_to_an_engine():
    assert chat(service_tier="auto", cache_control={"type": "ephemeral"}, speed="fast") == chat()


def test_thinking():
    enabled = chat(thinking={"type": "enabled", "budget_tokens": 1024})
    assert enabled["chat_template_kwargs"] == {"enable_thinking": True}
    assert chat(thinking={"type": "adaptive"}) == chat()
    own = chat(thinking={"type": "disabled"}, chat_template_kwargs={"enable_thinking": 1, "x": 2})
    assert own["chat_template_kwargs"] == {"enable_thinking": 1, "x": 2}


def test_a_schema():
    schema = {"type": "object", "properties": {}}
    wanted = {"type": "json_schema", "schema": schema}
    said = chat(output_config={"format": wanted})["response_format"]
    assert said["type"] == "json_schema"
    assert said["json_schema"]["schema"] == schema
    assert chat(output_format=wanted)["response_format"] == said


def test_the_system_prompt():
    billing = text("x-anthropic-billing-header: cc_version=1; cch=abc")
    said = turns(*HI, system=[billing, text("Be brief."), text("Be kind.")])
    assert said[0] == {"role": "system", "content": "Be brief.\n\nBe kind."}
    assert turns(*HI, system="Be.")[0] == {"role": "system", "content": "Be."}
    assert turns(*HI, system=[billing]) == turns(*HI, system="") == HI
    later = {"role": "system", "content": [text("Remember.")]}
    assert turns(*HI, later, *HI)[1] == {"role": "system", "content": "Remember."}


def test_content():
    image = {"type": "base64", "media_type": "image/png", "data": "AA=="}
    (said,) = turns(
        user(
            text("See"),
            {"type": "image", "source": image},
            {"type": "image", "source": {"type": "url", "url": "https://x/y.png"}},
            {
                "type": "document",
                "title": "T",
                "source": {"type": "text", "media_type": "text/plain", "data": "D"},
            },
        )
    )
    assert said["content"] == [
        text("See"),
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}},
        {"type": "image_url", "image_url": {"url": "https://x/y.png"}},
        text("T\n\nD"),
    ]


def test_a_tool_round_trip():
    use = {"type": "tool_use", "id": "t1", "name": "f", "input": {"a": 1}}
    other = {"type": "tool_use", "id": "t2", "name": "g", "input": {}}
    result = {"type": "tool_result", "tool_use_id": "t1", "content": [text("18"), text("°C")]}
    thinking = {"type": "thinking", "thinking": "hm", "signature": ""}
    said = turns(
        *HI,
        assistant(thinking, {"type": "redacted_thinking", "data": "x"}, text("Let me see"), use),
        user(text("and?"), result, {"type": "tool_result", "tool_use_id": "t2"}),
        assistant(other),
        user({**result, "content": "18", "is_error": True}),
    )
    call = {"id": "t1", "type": "function", "function": {"name": "f", "arguments": '{"a":1}'}}
    assert said[1] == {
        "role": "assistant",
        "content": "Let me see",
        "reasoning_content": "hm",
        "tool_calls": [call],
    }
    assert said[2:5] == [
        {"role": "tool", "tool_call_id": "t1", "content": [text("18"), text("°C")]},
        {"role": "tool", "tool_call_id": "t2", "content": ""},
        {"role": "user", "content": "and?"},
    ]
    assert said[5]["content"] is None
    assert said[6:] == [{"role": "tool", "tool_call_id": "t1", "content": "18"}]


def test_tools():
    said = chat(
        tools=[TOOL, {**TOOL, "type": "custom", "strict": True, "cache_control": {}}],
        tool_choice={"type": "any", "disable_parallel_tool_use": True},
    )
    function = {"name": "f", "description": "d", "parameters": {"type": "object"}}
    assert said["tools"] == [
        {"type": "function", "function": function},
        {"type": "function", "function": {**function, "strict": True}},
    ]
    assert said["tool_choice"] == "required"
    assert said["parallel_tool_calls"] is False


@pytest.mark.parametrize(
    ("choice", "said"),
    [
        ({"type": "auto"}, "auto"),
        ({"type": "none"}, "none"),
        ({"type": "tool", "name": "f"}, {"type": "function", "function": {"name": "f"}}),
    ],
)
def test_tool_choice(choice, said):
    assert chat(tools=[TOOL], tool_choice=choice)["tool_choice"] == said


def test_an_answer_that_has_begun_is_gone_on_with():
    said = chat(messages=[*HI, {"role": "assistant", "content": "The"}])
    assert said["continue_final_message"] is True
    assert said["add_generation_prompt"] is False
    assert "continue_final_message" not in chat()


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [TOOL, {"type": "web_search_20250305", "name": "w"}]}, "tools[1].type"),
        ({"mcp_servers": [{}]}, "mcp_servers"),
        ({"container": "c"}, "container"),
        ({"context_management": {}}, "context_management"),
        ({"n": 2}, "n"),
        ({"output_config": {"format": {"type": "grammar"}}}, "output_config.format"),
        ({"messages": [user({"type": "container_upload"})]}, "messages[0].content[0]"),
        (
            {"messages": [user({"type": "image", "source": {"type": "file", "file_id": "f"}})]},
            "messages[0].content[0].source",
        ),
        (
            {"messages": [user({"type": "document", "source": {"type": "base64"}})]},
            "messages[0].content[0].source",
        ),
        ({"messages": [assistant({"type": "server_tool_use"})]}, "messages[0].content[0]"),
        ({"system": [{"type": "image"}]}, "system[0]"),
    ],
)
def test_what_a_chat_cannot_say_is_refused_by_name(fields, param):
    assert refused(**fields).param == param


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"messages": [{"role": "robot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [user({"type": "text"})]}, "messages[0].content[0].text"),
        ({"messages": [7]}, "messages[0]"),
        ({"stop_sequences": "x"}, "stop_sequences"),
        ({"tools": [{"name": "f"}]}, "tools[0].input_schema"),
        ({"tools": {}}, "tools"),
        ({"tool_choice": {"type": "maybe"}}, "tool_choice"),
        ({"tool_choice": "auto"}, "tool_choice"),
    ],
)
def test_mistakes_are_the_clients(fields, param):
    error = refused(BadRequest, **fields)
    assert not isinstance(error, Unsupported)
    assert error.param == param
