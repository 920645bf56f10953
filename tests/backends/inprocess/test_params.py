import json

import pytest

from backends.base import RequestRefused
from backends.inprocess.params import Sampling, parse_chat, parse_completion
from backends.inprocess.refusals import Code

HELLO = {"role": "user", "content": "hello"}
TOOL = {"type": "function", "function": {"name": "f", "parameters": {}}}


def chat(**fields):
    return parse_chat(json.dumps({"messages": [HELLO], **fields}).encode())


def completion(**fields):
    return parse_completion(json.dumps({"prompt": "hello", **fields}).encode())


def refused(parse, **fields):
    with pytest.raises(RequestRefused) as caught:
        parse(**fields)
    assert caught.value.status == 400
    return caught.value


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("messages", {"messages": []}),
        ("messages", {"messages": "hello"}),
        ("temperature", {"temperature": "warm"}),
        ("temperature", {"temperature": -1}),
        ("temperature", {"temperature": 1e300}),
        ("repetition_penalty", {"repetition_penalty": 1e-300}),
        ("repetition_penalty", {"repetition_penalty": 1e300}),
        ("top_p", {"top_p": 1.5}),
        ("max_tokens", {"max_tokens": 0}),
        ("max_completion_tokens", {"max_completion_tokens": -5}),
        ("n", {"n": 0}),
        ("seed", {"seed": 1.5}),
        ("stop", {"stop": list("abcde")}),
        ("stop", {"stop": [""]}),
        ("response_format.type", {"response_format": {"type": "xml"}}),
        (
            "response_format.json_schema.schema",
            {"response_format": {"type": "json_schema", "json_schema": {}}},
        ),
        ("response_format.json_schema.schema", {"response_format": {"type": "json_schema"}}),
        (
            "response_format.json_schema.schema",
            {"response_format": {"type": "json_schema", "json_schema": {"schema": [1]}}},
        ),
        ("top_logprobs", {"top_logprobs": 2}),
        ("top_logprobs", {"logprobs": False, "top_logprobs": 0}),
        ("top_logprobs", {"logprobs": True, "top_logprobs": 21}),
        ("top_logprobs", {"logprobs": True, "top_logprobs": -1}),
        ("logprobs", {"logprobs": 5}),
        ("tool_choice", {"tool_choice": "required"}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": "sometimes"}),
        ("tool_choice", {"tools": [TOOL], "tool_choice": {"function": {"name": "g"}}}),
        (
            "response_format",
            {
                "messages": [HELLO, {"role": "assistant", "content": "Hi"}],
                "continue_final_message": True,
                "response_format": {"type": "json_object"},
            },
        ),
        ("tool_choice", {"tools": [TOOL], "tool_choice": {"type": "function"}}),
        ("tools[1]", {"tools": [TOOL, "f"]}),
        ("messages[1]", {"messages": [HELLO, "hello"]}),
        ("stream_options.include_usage", {"stream_options": {"include_usage": "yes"}}),
        ("continue_final_message", {"continue_final_message": True}),
        (
            "continue_final_message",
            {
                "messages": [HELLO, {"role": "assistant", "content": "Hi"}],
                "continue_final_message": True,
                "add_generation_prompt": True,
            },
        ),
    ],
)
def test_a_chat_that_cannot_be_honoured_names_the_field(param, fields):
    error = refused(chat, **fields)
    assert error.param == param
    assert error.message.startswith(f"`{param}`")
    assert "$" not in error.message
    assert error.code in frozenset(Code)


@pytest.mark.parametrize(
    ("code", "fields"),
    [
        ("invalid_type", {"temperature": "warm"}),
        ("invalid_type", {"messages": [{"role": "user", "content": 7}]}),
        ("missing_required_parameter", {"messages": [{"content": "x"}]}),
        ("missing_required_parameter", {"messages": [{"role": "user"}]}),
        ("invalid_value", {"messages": [{"role": "robot", "content": "x"}]}),
        ("empty_array", {"messages": []}),
        ("array_above_max_length", {"stop": list("abcde")}),
        ("empty_string", {"stop": ""}),
        ("integer_below_min_value", {"max_tokens": 0}),
        ("integer_below_min_value", {"n": 0}),
        ("integer_above_max_value", {"n": 1000}),
        ("integer_above_max_value", {"logprobs": True, "top_logprobs": 21}),
        ("decimal_below_min_value", {"temperature": -1}),
        ("decimal_above_max_value", {"top_p": 1.5}),
        (
            "invalid_schema",
            {"response_format": {"type": "json_schema", "json_schema": {"schema": 7}}},
        ),
        ("unsupported", {"return_token_ids": True}),
        ("unsupported", {"messages": [{"role": "user", "content": [{"type": "video_url"}]}]}),
    ],
)
def test_the_code_says_what_is_wrong(code, fields):
    assert refused(chat, **fields).code == code


def test_what_the_client_sent_is_shown_in_part():
    error = refused(chat, messages=[{"role": "r" * 100_000, "content": "x"}])
    assert len(error.message) < 300


@pytest.mark.parametrize(
    ("param", "fields"),
    [
        ("prompt", {"prompt": []}),
        ("prompt", {"prompt": [[]]}),
        ("prompt", {"prompt": [1, "a"]}),
        ("prompt", {"prompt": [True, False]}),
        ("prompt", {"prompt": None}),
        ("echo", {"echo": True}),
        ("suffix", {"suffix": "end"}),
        ("logprobs", {"logprobs": 21}),
        ("logprobs", {"logprobs": -1}),
        ("best_of", {"best_of": 3}),
    ],
)
def test_a_completion_that_cannot_be_honoured_names_the_field(param, fields):
    assert refused(completion, **fields).param == param


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"\xff", b'{"messages": [{"role": "\xff"}]}'])
def test_a_body_that_is_no_object_is_refused(body):
    with pytest.raises(RequestRefused) as caught:
        parse_chat(body)
    assert caught.value.status == 400


def test_a_body_too_deep_to_follow_is_refused():
    deep = b"[" * 100_000 + b"]" * 100_000
    for body in (deep, b'{"messages": [{"role": "user", "content": %s}]}' % deep):
        with pytest.raises(RequestRefused) as caught:
            parse_chat(body)
        assert caught.value.status == 400


def test_a_missing_field_is_named():
    with pytest.raises(RequestRefused) as caught:
        parse_chat(b"{}")
    assert (caught.value.param, caught.value.code) == ("messages", "missing_required_parameter")


def test_fields_it_does_not_know_and_nulls_are_ignored():
    params = chat(user="x", service_tier="auto", temperature=None, stop=None, response_format=None)
    assert params.stops == ()
    assert params.token_limit() is None


def test_the_newer_limit_wins():
    assert chat(max_tokens=5, max_completion_tokens=7).token_limit() == 7
    assert chat(max_tokens=5).token_limit() == 5


def test_completions_have_a_default_limit():
    assert completion().token_limit() == 16


@pytest.mark.parametrize(
    ("prompt", "prompts"),
    [
        ("a", ["a"]),
        (["a", "b"], ["a", "b"]),
        ([1, 2], [[1, 2]]),
        ([[1, 2], [3]], [[1, 2], [3]]),
    ],
)
def test_the_four_forms_of_a_prompt(prompt, prompts):
    assert completion(prompt=prompt).prompts == prompts


def test_tools_may_be_called_unless_the_client_says_no():
    assert chat(tools=[TOOL]).may_call
    assert chat(tools=[TOOL], tool_choice="auto").may_call
    assert not chat(tools=[TOOL], tool_choice="none").may_call
    assert not chat(tools=[]).may_call


class TestSampling:
    def test_what_was_asked_for_wins_over_the_models_defaults(self):
        defaults = Sampling(temperature=0.6, top_p=0.95, top_k=20)
        sampling = chat(temperature=0, top_k=-1).sampling(defaults, 100)
        assert sampling == Sampling(temperature=0, top_p=0.95, top_k=0)
        assert sampling.greedy

    def test_choices_of_one_request_differ_in_their_seed(self):
        sampling = Sampling(seed=5)
        assert [sampling.for_choice(choice).seed for choice in range(3)] == [5, 6, 7]
        assert Sampling().for_choice(3).seed is None

    @pytest.mark.parametrize("token", ["-1", "100", "x", "²", "", "9" * 5000])
    def test_a_bias_on_what_is_no_token(self, token):
        with pytest.raises(RequestRefused) as caught:
            chat(logit_bias={token: 1}).sampling(Sampling(), 100)
        assert caught.value.param == "logit_bias"

    @pytest.mark.parametrize("value", [-100.5, 101, 1e300])
    def test_a_bias_beyond_the_limits(self, value):
        with pytest.raises(RequestRefused) as caught:
            chat(logit_bias={"1": value}).sampling(Sampling(), 100)
        assert caught.value.param == "logit_bias"
