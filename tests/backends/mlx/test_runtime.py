"""What the runtime promises of answers that are held to something, on the model that ships."""

import asyncio
import json
import random

import jsonschema
import pytest

from backends.base import RequestRefused
from tests.backends.mlx.conftest import user
from tests.support.random_schemas import random_schema

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 20},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
    },
    "required": ["name", "age"],
    "additionalProperties": False,
}
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
ADD = {
    "type": "function",
    "function": {
        "name": "add",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"a": {"$ref": "#/$defs/digit"}, "b": {"$ref": "#/$defs/digit"}},
            "required": ["a", "b"],
            "additionalProperties": False,
            "$defs": {"digit": {"type": "integer", "minimum": 0, "maximum": 9}},
        },
    },
}
TOOLS = [WEATHER, ADD]


def held_to(schema):
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema}}


async def asked(client, text="Hello!", **body):
    (choice,) = (await client.ask(messages=user(text), **body))["choices"]
    return choice


async def refused(client, **body):
    with pytest.raises(RequestRefused) as caught:
        await client.send(messages=user("x"), **body)
    assert caught.value.status == 400
    return caught.value


async def check_schemas(client, seeds):
    schemas = [random_schema(random.Random(seed)) for seed in seeds]
    answers = await asyncio.gather(
        *(
            asked(client, response_format=held_to(schema), temperature=1.0, seed=1, max_tokens=900)
            for schema in schemas
        )
    )
    for schema, answer in zip(schemas, answers, strict=True):
        assert answer["finish_reason"] == "stop", schema
        jsonschema.validate(json.loads(answer["message"]["content"]), schema)


@pytest.mark.slow
async def test_random_schemas_are_kept(client):
    await check_schemas(client, range(8))


@pytest.mark.slow
@pytest.mark.parametrize("start", range(8, 200, 24))
async def test_many_random_schemas_are_kept(open_client, start):
    async with open_client(max_batch=8, max_waiting=64) as client:
        await check_schemas(client, range(start, start + 24))


class TestResponseFormat:
    async def test_an_object_is_an_object_whatever_was_asked(self, client):
        answer = await asked(
            client, response_format={"type": "json_object"}, temperature=1.5, seed=3, max_tokens=500
        )
        if answer["finish_reason"] == "stop":
            assert isinstance(json.loads(answer["message"]["content"]), dict)
        assert answer["message"]["content"].startswith("{")

    async def test_what_the_model_would_have_said_anyway_stays(self, client):
        question = "Give me a JSON object with name and age for Tom, 7."
        free = await asked(client, question, temperature=0)
        held = await asked(client, question, temperature=0, response_format=held_to(PERSON))
        assert held == free

    async def test_a_limit_cuts_and_says_so(self, client):
        answer = await asked(client, response_format=held_to(PERSON), max_tokens=3, temperature=0)
        assert answer["finish_reason"] == "length"

    async def test_an_end_that_is_to_be_ignored_still_ends_a_schema(self, client):
        answer = await asked(
            client, response_format=held_to(PERSON), ignore_eos=True, max_tokens=200, seed=1
        )
        assert answer["finish_reason"] == "stop"
        jsonschema.validate(json.loads(answer["message"]["content"]), PERSON)

    async def test_a_stream_is_held_too_and_so_is_each_choice(self, client):
        events = await client.events(
            messages=user("Hello!"), n=3, seed=5, temperature=1, response_format=held_to(PERSON)
        )
        for index in range(3):
            text = "".join(
                choice["delta"].get("content") or ""
                for event in events
                for choice in event["choices"]
                if choice["index"] == index
            )
            jsonschema.validate(json.loads(text), PERSON)

    async def test_a_completion_is_held_too(self, client):
        answer = await client.ask(
            prompt="Tom is 7.", response_format=held_to(PERSON), max_tokens=100, seed=2
        )
        jsonschema.validate(json.loads(answer["choices"][0]["text"]), PERSON)

    async def test_a_stop_string_cuts_a_held_answer(self, client):
        answer = await asked(
            client,
            "Give me a JSON object with name and age for Tom, 7.",
            response_format=held_to(PERSON),
            stop='"age"',
            temperature=0,
        )
        assert answer["message"]["content"] == '{"name": "Tom", '
        assert answer["finish_reason"] == "stop"

    @pytest.mark.parametrize(
        ("schema", "reason"),
        [
            ({"type": "nope"}, "nope"),
            ({"$ref": "#/$defs/missing"}, "missing"),
            ({"$ref": "#"}, "no JSON value satisfies it"),
            ({"type": "string", "pattern": "(?=a)b"}, "look-around"),
            ({"type": "array", "uniqueItems": True}, "uniqueItems"),
            ({"$ref": "http://example.com/schema"}, "not present"),
            ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "nsatisfiable"),
            ({"enum": ["x" * 200_000]}, "at most"),
            ({"type": "integer", "multipleOf": 1_000_003}, "multipleOf"),
            (
                {"allOf": [{"type": "string", "pattern": f".*{c}.*"} for c in "abcdefghijklmnop"]},
                "",
            ),
        ],
    )
    async def test_a_schema_that_cannot_be_compiled_is_refused(self, client, schema, reason):
        error = await refused(client, response_format=held_to(schema))
        assert error.param == "response_format.json_schema.schema"
        assert error.code == "invalid_schema"
        assert reason in error.message
        assert len(error.message) < 500

    async def test_a_schema_too_deep_to_follow_is_refused(self, client):
        deep: dict = {}
        for _ in range(150):
            deep = {"type": "array", "items": deep}
        error = await refused(client, response_format=held_to(deep))
        assert error.param == "response_format.json_schema.schema"


class TestTools:
    @pytest.mark.parametrize("stream", [False, True])
    @pytest.mark.parametrize(
        ("choice", "names"),
        [
            ("required", {"get_weather", "add"}),
            ({"type": "function", "function": {"name": "add"}}, {"add"}),
            (
                {
                    "type": "allowed_tools",
                    "allowed_tools": {"mode": "required", "tools": [WEATHER]},
                },
                {"get_weather"},
            ),
        ],
    )
    async def test_a_call_is_forced(self, client, choice, names, stream):
        body = {
            "messages": user("Hello!"),
            "tools": TOOLS,
            "tool_choice": choice,
            "parallel_tool_calls": False,
            "temperature": 1,
            "seed": 4,
        }
        if stream:
            events = await client.events(**body)
            deltas = [event["choices"][0]["delta"] for event in events]
            calls = [call for delta in deltas for call in delta.get("tool_calls", ())]
            name = calls[0]["function"]["name"]
            arguments = "".join(call["function"]["arguments"] for call in calls)
            finish = events[-1]["choices"][0]["finish_reason"]
        else:
            answer = (await client.ask(**body))["choices"][0]
            (call,) = answer["message"]["tool_calls"]
            name, arguments = call["function"]["name"], call["function"]["arguments"]
            finish = answer["finish_reason"]
        assert name in names
        assert finish == "tool_calls"
        parameters = {tool["function"]["name"]: tool["function"]["parameters"] for tool in TOOLS}
        jsonschema.validate(json.loads(arguments), parameters[name])

    async def test_strict_arguments_are_held_where_the_model_chooses_to_call(self, client):
        strict = {**WEATHER, "function": {**WEATHER["function"], "strict": True}}
        answer = await asked(client, "What is the weather in Paris?", tools=[strict], temperature=0)
        (call,) = answer["message"]["tool_calls"]
        assert json.loads(call["function"]["arguments"]) == {"city": "Paris"}

    async def test_strict_tools_leave_the_model_free_to_say_something_else(self, client):
        free = await asked(client, "What is 3 + 4?", tools=[WEATHER], temperature=0)
        held = await asked(client, "What is 3 + 4?", tools=[ADD, WEATHER], temperature=0)
        assert "tool_calls" not in free["message"]
        assert held["finish_reason"] in ("stop", "tool_calls")

    async def test_a_format_or_a_call(self, client):
        body = {"tools": [WEATHER], "temperature": 0, "response_format": held_to(PERSON)}
        called = await asked(client, "What is the weather in Paris?", **body)
        assert called["finish_reason"] == "tool_calls"
        said = await asked(client, "Give me a JSON object with name and age for Tom, 7.", **body)
        jsonschema.validate(json.loads(said["message"]["content"]), PERSON)

    async def test_parameters_that_cannot_be_compiled_name_the_tool(self, client):
        bad = {
            "type": "function",
            "function": {"name": "f", "parameters": {"type": "string", "pattern": "("}},
        }
        error = await refused(client, tools=[WEATHER, bad], tool_choice="required")
        assert error.param == "tools[1].function.parameters"

    async def test_keywords_nobody_can_hold_matter_only_where_strict(self, client):
        def tool(**more):
            parameters = {"type": "object", "properties": {}, "minProperties": 0, "not": {}}
            return {"type": "function", "function": {"name": "f", "parameters": parameters, **more}}

        answer = await asked(client, tools=[tool()], tool_choice="required", max_tokens=60, seed=1)
        assert answer["message"]
        error = await refused(client, tools=[tool(strict=True)], tool_choice="required")
        assert error.param == "tools[0].function.parameters"


@pytest.mark.slow
async def test_a_bad_schema_and_a_bad_grammar_leave_seven_good_requests_alone(client):
    questions = ["Tell me a story about Mia.", "What is 3 + 4?", "Count from 1 to 30.", "Hello!"]
    wanted = [{"temperature": 0}, {"temperature": 1, "seed": 3}]
    bodies = [(question, body) for question in questions for body in wanted][:7]
    alone = [await asked(client, question, **body) for question, body in bodies]
    bad = client.send(messages=user("x"), response_format=held_to({"type": "nope"}))
    # It compiles, and fails while it is used: counting to 5000 takes more states than allowed.
    doomed = client.ask(
        messages=user("x"),
        response_format=held_to({"type": "string", "pattern": "^(a?){5000}a{5000}$"}),
    )
    together = await asyncio.gather(
        bad,
        doomed,
        *(asked(client, question, **body) for question, body in bodies),
        return_exceptions=True,
    )
    assert isinstance(together[0], RequestRefused)
    assert isinstance(together[1], Exception)
    assert together[2:] == alone
