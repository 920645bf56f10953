import json
import pkgutil
import shutil

import pytest

from backends.base import BackendError, RequestRefused
from backends.inprocess.tool_calls import ToolCallParser
from backends.mlx.importing import import_mlx

TOOLS = [
    {
        "type": "function",
        "function": {
            "name": name,
            "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
        },
    }
    for name in ("weather", "time")
]
GLM = "<tool_call>weather\n<arg_key>city</arg_key>\n<arg_value>Rome</arg_value>\n</tool_call>"
WRITTEN = {
    "function_gemma": (
        "<start_function_call>call:weather{city:<escape>Rome<escape>}<end_function_call>"
    ),
    "gemma4": '<|tool_call>call:weather{city:<|"|>Rome<|"|>}<tool_call|>',
    "glm47": GLM,
    "laguna": GLM,
    "json_tools": '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call>',
    "kimi_k2": (
        "<|tool_calls_section_begin|><|tool_call_begin|>functions.weather:0"
        '<|tool_call_argument_begin|>{"city": "Rome"}<|tool_call_end|><|tool_calls_section_end|>'
    ),
    "kimi_k3": (
        '<|open|>tools<|sep|><|open|>call tool="weather" index="1"<|sep|>'
        '<|open|>argument key="city" type="string"<|sep|>Rome<|close|>argument<|sep|>'
        "<|close|>call<|sep|><|close|>tools<|sep|>"
    ),
    "longcat": (
        "<longcat_tool_call>weather\n<longcat_arg_key>city</longcat_arg_key>\n"
        "<longcat_arg_value>Rome</longcat_arg_value>\n</longcat_tool_call>"
    ),
    "minicpm5": '<function name="weather"><param name="city">Rome</param></function>',
    "minimax_m2": (
        '<minimax:tool_call>\n<invoke name="weather">\n<parameter name="city">Rome</parameter>\n'
        "</invoke>\n</minimax:tool_call>"
    ),
    "mistral": '[TOOL_CALLS]weather[ARGS]{"city": "Rome"}',
    "muse_spark": (
        '<atem:function_calls><atem:invoke name="weather">'
        '<atem:parameter name="city">Rome</atem:parameter></atem:invoke></atem:function_calls>'
    ),
    "pythonic": "<|tool_call_start|>[weather(city='Rome')]<|tool_call_end|>",
    "qwen3_coder": (
        "<tool_call>\n<function=weather>\n<parameter=city>\nRome\n</parameter>\n</function>\n"
        "</tool_call>"
    ),
}
"""A call of `weather` for Rome, as each of mlx-lm's parsers reads it."""


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory, model_dir):
    """The tokenizer that ships, with another template, and with more tokens."""
    import_mlx()
    from mlx_lm.tokenizer_utils import load

    def make(template=None, *, special=(), plain=()):
        directory = tmp_path_factory.mktemp("model")
        for name in ("tokenizer.json", "tokenizer_config.json", "config.json"):
            shutil.copy(model_dir / name, directory)
        config = json.loads((directory / "tokenizer_config.json").read_text())
        if template is not None:
            config["chat_template"] = template
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
        known = json.loads((directory / "tokenizer.json").read_text())
        for at, content in enumerate((*special, *plain)):
            token = {"id": 2048 + at, "content": content, "special": content in special}
            flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
            known["added_tokens"].append({**token, **flags})
        (directory / "tokenizer.json").write_text(json.dumps(known))
        return load(directory)

    return make


def find(tokenizer, tool_parser="auto", reasoning_parser="auto"):
    from backends.mlx.answer_format import find_format

    return find_format(tokenizer, tool_parser=tool_parser, reasoning_parser=reasoning_parser)


def read(tool_format, text, size):
    parser = ToolCallParser(tool_format, TOOLS, eager=True)
    out, calls = "", []
    for at in range(0, len(text), size):
        piece, found = parser.add(text[at : at + size])
        out, calls = out + piece, [*calls, *found]
    piece, found = parser.finish()
    called = {}
    for call in [*calls, *found]:
        name, arguments = called.get(call.index, ("", ""))
        called[call.index] = (name + call.name, arguments + call.arguments)
    return out + piece, [(name, json.loads(arguments)) for name, arguments in called.values()]


class TestTools:
    def test_every_parser_of_the_library_is_tried_here(self):
        import_mlx()
        import mlx_lm.tool_parsers

        known = {module.name for module in pkgutil.iter_modules(mlx_lm.tool_parsers.__path__)}
        assert known == WRITTEN.keys()

    @pytest.mark.parametrize("size", [1, 5, 1000])
    @pytest.mark.parametrize("name", WRITTEN)
    def test_a_call_in_each_format(self, tokenizer, name, size):
        tools = find(tokenizer(), name).tools
        text, calls = read(tools, f"Let me see. {WRITTEN[name]}", size)
        assert (text, calls) == ("Let me see.", [("weather", {"city": "Rome"})])

    @pytest.mark.parametrize("name", sorted(WRITTEN.keys() - {"json_tools"}))
    def test_what_cannot_be_read_or_names_no_tool_stays_text(self, tokenizer, name):
        tools = find(tokenizer(), name).tools
        for text in (
            WRITTEN[name].replace("weather", "nonsense"),
            f"{tools.start}nonsense{tools.end}",
            f"{tools.start}nonsense",
        ):
            assert read(tools, text, 7) == (text, [])

    def test_two_calls_of_a_format_without_an_end_mark(self, tokenizer):
        written = '[TOOL_CALLS]weather[ARGS]{"city": "Rome"}[TOOL_CALLS]time[ARGS]{"city": "Oslo"}'
        _, calls = read(find(tokenizer(), "mistral").tools, written, 4)
        assert calls == [("weather", {"city": "Rome"}), ("time", {"city": "Oslo"})]

    @pytest.mark.parametrize(
        ("template", "name"),
        [
            (None, "hermes"),
            ("no tools", "hermes"),
            ("[TOOL_CALLS]", "mistral"),
            ("<arg_key>", "glm47"),
            ("<tool_call>\n<function=", "qwen3_coder"),
            ("<\uff5ctool\u2581calls\u2581begin\uff5c>", "deepseek_v3"),
        ],
    )
    def test_the_template_shows_the_format(self, tokenizer, template, name):
        assert find(tokenizer(template)).tools.name == name

    def test_llama_is_known_by_its_mark_and_its_words(self, tokenizer):
        template = 'Respond with {"name": function name, "parameters": dictionary}'
        assert find(tokenizer(template, special=["<|python_tag|>"])).tools.name == "llama3_json"
        assert find(tokenizer(template)).tools.name == "hermes"

    def test_none_leaves_calls_as_text(self, tokenizer):
        assert find(tokenizer(), "none").tools is None

    def test_a_name_that_nobody_knows(self, tokenizer):
        with pytest.raises(BackendError, match=r"tool_parser: 'hermez' .* did you mean 'hermes'"):
            find(tokenizer(), "hermez")


class TestReasoning:
    def test_a_model_without_marks(self, tokenizer):
        assert find(tokenizer()).reasoning is None

    @pytest.mark.parametrize(
        ("added", "start"),
        [(("<think>", "</think>"), "<think>"), (("[THINK]", "[/THINK]"), "[THINK]")],
    )
    def test_marks_in_the_vocabulary(self, tokenizer, added, start):
        found = find(tokenizer(plain=added))
        assert found.reasoning.start == start
        assert not found.hidden

    def test_marks_in_the_template(self, tokenizer):
        found = find(tokenizer("{% if enable_thinking %}<think></think>{% endif %}"))
        assert (found.reasoning.start, found.reasoning.assumed) == ("<think>", False)

    def test_by_name_and_not_at_all(self, tokenizer):
        thinking = tokenizer(plain=["<think>", "</think>"])
        assert find(thinking, reasoning_parser="deepseek_r1").reasoning.assumed
        assert find(thinking, reasoning_parser="none").reasoning is None

    def test_a_name_that_nobody_knows(self, tokenizer):
        with pytest.raises(BackendError, match=r"reasoning_parser: 'qwen' .* mean 'qwen3'"):
            find(tokenizer(), reasoning_parser="qwen")


class TestSpecialTokens:
    def test_marks_that_are_special_tokens_are_not_hidden(self, tokenizer):
        made = tokenizer(special=["[TOOL_CALLS]", "[THINK]", "[/THINK]", "[OTHER]"])
        tool, begin, end, other = (
            made.convert_tokens_to_ids(token)
            for token in ("[TOOL_CALLS]", "[THINK]", "[/THINK]", "[OTHER]")
        )
        found = find(made, "mistral")
        assert {tool, other, made.eos_token_id} <= found.hidden
        assert not {begin, end} & found.hidden
        assert found.hidden_with_tools == found.hidden - {tool}

    def test_the_marks_of_channels_are_not_hidden(self, tokenizer):
        marks = ["<|start|>", "<|channel|>", "<|message|>", "<|constrain|>", "<|end|>", "<|call|>"]
        made = tokenizer(special=[*marks, "<|reserved|>"])
        found = find(made)
        assert found.reasoning.channels
        assert found.hidden >= {made.eos_token_id, made.convert_tokens_to_ids("<|reserved|>")}
        assert not {made.convert_tokens_to_ids(mark) for mark in marks} & found.hidden

    def test_without_such_marks_nobody_has_to_look(self, tokenizer):
        found = find(tokenizer(special=["[OTHER]"]))
        assert not found.hidden
        assert not found.hidden_with_tools


WEATHER = {
    "messages": [{"role": "user", "content": "What is the weather in Paris?"}],
    "temperature": 0,
    "tools": [
        {
            "type": "function",
            "function": {
                "name": "get_weather",
                "description": "Tells the weather in a city.",
                "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
            },
        }
    ],
}


def renamed(model_dir, directory, *, special, opened=False):
    """The model that ships, whose marks around tool calls are spelled as those of thinking.

    So what it writes between them, for a question about the weather, is what it thinks.
    """
    shutil.copytree(model_dir, directory, ignore=shutil.ignore_patterns("*.gguf", "adapters"))
    for name in ("tokenizer.json", "tokenizer_config.json"):
        text = (directory / name).read_text().replace("tool_call>", "think>")
        (directory / name).write_text(text)
    known = json.loads((directory / "tokenizer.json").read_text())
    for token in known["added_tokens"]:
        if "think>" in token["content"]:
            token["special"] = special
    (directory / "tokenizer.json").write_text(json.dumps(known))
    if opened:
        config = json.loads((directory / "tokenizer_config.json").read_text())
        config["chat_template"] += "{% if add_generation_prompt %}<think>\n{% endif %}"
        (directory / "tokenizer_config.json").write_text(json.dumps(config))
    return str(directory)


def pieces(events, field):
    return [
        choice["delta"][field]
        for event in events
        for choice in event["choices"]
        if choice["delta"].get(field)
    ]


class TestThinking:
    """Through a loaded model, from the template to the usage."""

    @pytest.fixture(params=[True, False], ids=["special", "plain"])
    async def thinker(self, request, model_dir, tmp_path, open_client):
        path = renamed(model_dir, tmp_path / "thinker", special=request.param)
        async with open_client(model=path) as client:
            yield client

    async def test_thinking_is_no_content(self, thinker):
        answer = await thinker.ask(**WEATHER)
        (choice,) = answer["choices"]
        message = choice["message"]
        assert json.loads(message["reasoning_content"])["name"] == "get_weather"
        assert (message["content"], choice["finish_reason"]) == ("", "stop")
        details = answer["usage"]["completion_tokens_details"]
        assert 0 < details["reasoning_tokens"] < answer["usage"]["completion_tokens"]

    async def test_a_stream_thinks_the_same_piece_by_piece(self, thinker):
        whole = await thinker.ask(**WEATHER)
        events = await thinker.events(**WEATHER, stream_options={"include_usage": True})
        thought = pieces(events, "reasoning_content")
        assert "".join(thought) == whole["choices"][0]["message"]["reasoning_content"]
        assert len(thought) > 5
        assert not pieces(events, "content")
        for field in ("completion_tokens", "completion_tokens_details"):
            assert events[-1]["usage"][field] == whole["usage"][field]

    async def test_a_stop_string_does_not_end_thinking(self, thinker):
        answer = await thinker.ask(**WEATHER, stop="name")
        assert '"name"' in answer["choices"][0]["message"]["reasoning_content"]

    async def test_thinking_that_is_not_wanted(self, thinker):
        answer = await thinker.ask(**WEATHER, include_reasoning=False)
        assert "reasoning_content" not in answer["choices"][0]["message"]
        assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] > 0

    async def test_an_answer_without_thinking(self, thinker):
        answer = await thinker.ask(
            messages=[{"role": "user", "content": "What is the capital of Spain?"}], temperature=0
        )
        message = answer["choices"][0]["message"]
        assert "Madrid" in message["content"]
        assert "reasoning_content" not in message
        assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 0

    async def test_a_template_that_opens_the_block(self, model_dir, tmp_path, open_client):
        path = renamed(model_dir, tmp_path / "opened", special=True, opened=True)
        async with open_client(model=path) as client:
            answer = await client.ask(**{**WEATHER, "max_tokens": 5})
        (choice,) = answer["choices"]
        assert choice["message"]["content"] == ""
        assert choice["message"]["reasoning_content"]
        assert choice["finish_reason"] == "length"
        assert answer["usage"]["completion_tokens_details"]["reasoning_tokens"] == 5

    async def test_none_leaves_it_in_the_answer(self, model_dir, tmp_path, open_client):
        path = renamed(model_dir, tmp_path / "plain", special=False)
        async with open_client(model=path, reasoning_parser="none") as client:
            answer = await client.ask(**WEATHER)
        assert answer["choices"][0]["message"]["content"].startswith("<think>")
        assert "completion_tokens_details" not in answer["usage"]

    async def test_a_name_that_nobody_knows_is_told_at_the_start(self, open_client):
        with pytest.raises(BackendError, match="did you mean 'qwen3'"):
            async with open_client(reasoning_parser="qwen"):
                pass


class TestCalls:
    async def test_arguments_are_streamed_as_they_are_written(self, client):
        (whole,) = (await client.ask(**WEATHER))["choices"][0]["message"]["tool_calls"]
        events = await client.events(**WEATHER)
        (first, *more) = [call for calls in pieces(events, "tool_calls") for call in calls]
        assert first["function"] == {"name": "get_weather", "arguments": ""}
        assert first["id"].startswith("call_")
        assert len(more) > 3
        assert all(call.keys() == {"index", "function"} for call in more)
        arguments = "".join(call["function"]["arguments"] for call in more)
        assert arguments == whole["function"]["arguments"]
        assert events[-1]["choices"][0]["finish_reason"] == "tool_calls"

    async def test_a_streamed_call_that_is_cut_off(self, client):
        events = await client.events(**WEATHER, max_tokens=14)
        (first, *_) = [call for calls in pieces(events, "tool_calls") for call in calls]
        assert first["function"]["name"] == "get_weather"
        assert events[-1]["choices"][0]["finish_reason"] == "length"
        cut = await client.ask(**WEATHER, max_tokens=14)
        assert cut["choices"][0]["message"]["content"].startswith("<tool_call>")
        assert cut["choices"][0]["finish_reason"] == "length"

    async def test_left_as_text(self, open_client):
        async with open_client(tool_parser="none") as client:
            answer = await client.ask(**WEATHER)
        assert answer["choices"][0]["message"]["content"].startswith("<tool_call>")
        assert answer["choices"][0]["finish_reason"] == "stop"

    async def test_a_tokenizer_that_has_no_grammars_is_no_reason_to_refuse(
        self, client, monkeypatch
    ):
        """Calls are kept out where they can be: nobody asked for more than not to have them."""
        monkeypatch.setattr(client.backend._runtime, "_grammars", None)
        answer = await client.ask(**WEATHER, tool_choice="none")
        assert not answer["choices"][0]["message"].get("tool_calls")
        with pytest.raises(RequestRefused) as caught:
            await client.ask(**WEATHER, tool_choice="required")
        assert caught.value.code == "unsupported"
