"""Responses and messages from engines that only have chats, by the SDKs that know no better.

`mlx` is in the gateway's process; `plain` is a llama-server of which the gateway believes that it
has chats only; `native` is the same server, asked in the dialect itself: what it answers is what
the translation is held against.
"""

from __future__ import annotations

import json

import anthropic
import openai
import pytest
from pydantic import BaseModel

from tests.e2e.test_endpoints import ANSWER, GREEDY, prompt_tokens
from tests.e2e.test_sdk import CAPITAL, COUNT, WEATHER
from tests.support.engines import MODEL, MODEL_DIR
from tests.support.gateway import GatewayProcess

ASK = "What is the capital of Spain?"
ASK_WEATHER = "What is the weather in Paris?"
SUNNY = "It is 18 degrees and sunny in Paris."
RESULT = '{"temperature": 18, "condition": "sunny"}'
FUNCTION = {"type": "function", "strict": False, **WEATHER["function"]}
TOOL = {
    "name": "get_weather",
    "description": WEATHER["function"]["description"],
    "input_schema": WEATHER["function"]["parameters"],
}
ASK_TOM = "Give me a JSON object with name and age for Tom, 7."


class Person(BaseModel):
    name: str
    age: int


def routing(kind, server):
    """A routing.yaml with MLX and, twice, one server."""
    where = f"replicas: ['{server.url}'], model: {MODEL}"
    lacks = "without: [responses, messages, count_tokens]"
    return (
        "backends:\n"
        f"  mlx: {{use: mlx, model: {MODEL_DIR}}}\n"
        f"  plain: {{use: openai, {where}, {lacks}}}\n"
        f"  native: {{use: {kind}, {where}}}\n"
        "models:\n"
        "  mlx: {backend: mlx}\n"
        "  plain: {backend: plain}\n"
        "  native: {backend: native}\n"
    )


@pytest.fixture(scope="module")
def translator(children, llama_server, tmp_path_factory):
    """A gateway in front of MLX and, twice, of one llama-server."""
    folder = tmp_path_factory.mktemp("translator")
    gateway = GatewayProcess(children, folder, routing("llama_server", llama_server))
    gateway.wait_ready()
    yield gateway
    gateway.stop()


@pytest.fixture
def responses(translator):
    with translator.openai() as client:
        yield client.responses


@pytest.fixture
def messages(translator):
    with translator.anthropic() as client:
        yield client.messages


@pytest.fixture(params=["mlx", "plain"])
def model(request):
    """Each of the translated ones."""
    return request.param


def shape(value):
    """The names of all fields and the kinds of all values."""
    if isinstance(value, dict):
        return {name: shape(one) for name, one in value.items()}
    if isinstance(value, list):
        return [shape(one) for one in value]
    return type(value).__name__


def has(there, here):
    """Whether all that is in the shape `there` is in `here` as well, and of the same kind."""
    if isinstance(there, dict):
        return isinstance(here, dict) and all(
            name in here and has(one, here[name]) for name, one in there.items()
        )
    if isinstance(there, list):
        return len(there) == len(here) and all(map(has, there, here))
    return there == here


class TestResponses:
    def test_an_answer_is_what_the_engine_itself_gives(self, responses, model):
        asked = {"input": ASK, "temperature": 0, "instructions": "Be brief."}
        said = responses.create(model=model, **asked)
        native = responses.create(model="native", **asked)
        assert said.output_text == native.output_text
        assert (said.status, said.model, said.object) == ("completed", model, "response")
        assert said.usage.input_tokens == native.usage.input_tokens
        assert said.usage.output_tokens in range(3, native.usage.output_tokens + 1)
        assert said.instructions == "Be brief."
        (there, here) = (shape(one.model_dump(exclude_none=True)) for one in (native, said))
        there.pop("completed_at", None)
        assert has(there["output"], here["output"])
        assert there.keys() <= here.keys()

    def test_the_events_are_those_of_the_engine_itself(self, responses, model):
        asked = {"input": ASK, "temperature": 0, "stream": True}
        said, native = (
            [one.type for one in responses.create(model=name, **asked)]
            for name in (model, "native")
        )
        assert list(dict.fromkeys(said)) == list(dict.fromkeys(native))
        assert said.count("response.output_text.delta") > 3

    def test_the_sdks_own_stream(self, responses, model):
        with responses.stream(model=model, input=ASK, temperature=0) as stream:
            events = list(stream)
            final = stream.get_final_response()
        assert final.output_text == ANSWER
        assert [one.sequence_number for one in events] == list(range(len(events)))
        last = [one for one in events if one.type == "response.output_text.delta"][-1]
        assert last.snapshot == ANSWER
        assert final.usage.input_tokens > 5

    def test_the_token_limit(self, responses, model):
        said = responses.create(model=model, input=ASK, temperature=0, max_output_tokens=3)
        assert said.status == "incomplete"
        assert said.incomplete_details.reason == "max_output_tokens"
        assert said.usage.output_tokens == 3

    @pytest.mark.parametrize("streamed", [True, False])
    def test_a_function_round_trip(self, responses, model, streamed):
        asked = {"model": model, "tools": [FUNCTION], "temperature": 0}
        turns = [{"role": "user", "content": ASK_WEATHER}]
        if streamed:
            with responses.stream(input=turns, **asked) as stream:
                said = stream.get_final_response()
        else:
            said = responses.create(input=turns, **asked)
        (call,) = said.output
        assert (call.type, call.name) == ("function_call", "get_weather")
        assert json.loads(call.arguments) == {"city": "Paris"}
        result = {"type": "function_call_output", "call_id": call.call_id, "output": RESULT}
        again = responses.create(
            input=[*turns, call.model_dump(exclude_none=True), result], **asked
        )
        assert again.output_text == SUNNY

    def test_an_answer_goes_back_as_input(self, responses, model):
        turns = [{"role": "user", "content": ASK}]
        said = responses.create(model=model, input=turns, temperature=0)
        turns += [one.model_dump(exclude_none=True) for one in said.output]
        turns += [{"role": "user", "content": ASK_WEATHER}]
        again = responses.create(model=model, input=turns, temperature=0, tools=[FUNCTION])
        assert again.output[0].type == "function_call"

    def test_structured_output(self, responses, model):
        asked = {"input": ASK_TOM, "temperature": 0, "text_format": Person}
        said = responses.parse(model=model, **asked)
        assert said.output_parsed == Person(name="Tom", age=7)
        with responses.stream(model=model, **asked) as stream:
            assert stream.get_final_response().output_parsed == Person(name="Tom", age=7)

    def test_log_probabilities(self, responses, model):
        said = responses.create(
            model=model,
            input=ASK,
            temperature=0,
            top_logprobs=2,
            include=["message.output_text.logprobs"],
        )
        told = said.output[0].content[0].logprobs
        assert len(told) >= 3
        assert all(one.logprob <= 0 and len(one.top_logprobs) == 2 for one in told)

    @pytest.mark.parametrize(
        ("fields", "param"),
        [
            ({"previous_response_id": "resp_1"}, "previous_response_id"),
            ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ],
    )
    def test_what_a_chat_cannot_say(self, responses, model, fields, param):
        with pytest.raises(openai.BadRequestError) as refused:
            responses.create(model=model, input=ASK, **fields)
        assert (refused.value.code, refused.value.param) == ("unsupported", param)

    async def test_the_async_sdk(self, translator, model):
        asked = {"model": model, "input": ASK, "temperature": 0}
        async with (
            translator.async_openai() as client,
            client.responses.stream(**asked) as stream,
        ):
            final = await stream.get_final_response()
        assert final.output_text == ANSWER


class TestMessages:
    def test_an_answer_is_what_the_engine_itself_gives(self, messages, model):
        asked = {"max_tokens": 50, "messages": CAPITAL, "extra_body": GREEDY, "system": "Be brief."}
        said = messages.create(model=model, **asked)
        native = messages.create(model="native", **asked)
        assert said.content[0].text == native.content[0].text
        assert (said.stop_reason, said.model) == ("end_turn", model)
        assert prompt_tokens(said.usage) == prompt_tokens(native.usage)
        there, here = (shape(one.model_dump(exclude_none=True)) for one in (native, said))
        assert has(there, here)

    def test_the_events_are_those_of_the_engine_itself(self, messages, model):
        asked = {
            "max_tokens": 50,
            "messages": CAPITAL,
            "extra_body": GREEDY,
            "stream": True,
        }
        said, native = (
            [one.type for one in messages.create(model=name, **asked)] for name in (model, "native")
        )
        assert list(dict.fromkeys(said)) == list(dict.fromkeys(native))
        assert said.count("content_block_delta") > 3

    def test_the_sdks_own_stream(self, messages, model):
        asked = {"max_tokens": 50, "messages": CAPITAL, "extra_body": GREEDY}
        with messages.stream(model=model, **asked) as stream:
            text = "".join(stream.text_stream)
            final = stream.get_final_message()
        assert text == final.content[0].text == ANSWER
        assert final.stop_reason == "end_turn"
        assert prompt_tokens(final.usage) > 5
        assert final.usage.output_tokens > 3

    def test_the_token_limit(self, messages, model):
        said = messages.create(model=model, max_tokens=4, messages=COUNT, extra_body=GREEDY)
        assert said.stop_reason == "max_tokens"
        assert said.usage.output_tokens == 4

    def test_stop_sequences(self, messages, model):
        said = messages.create(
            model=model,
            max_tokens=50,
            messages=COUNT,
            stop_sequences=[", 5"],
            extra_body=GREEDY,
        )
        assert said.content[0].text == "1, 2, 3, 4"
        # llama-server does not tell, in a chat, whether it was a stop sequence.
        told = {"mlx": ("stop_sequence", ", 5"), "plain": ("end_turn", None)}
        assert (said.stop_reason, said.stop_sequence) == told[model]

    def test_a_schema(self, messages, model):
        turns = [{"role": "user", "content": ASK_TOM}]
        schema = Person.model_json_schema()
        said = messages.create(
            model=model,
            max_tokens=50,
            messages=turns,
            output_config={"format": {"type": "json_schema", "schema": schema}},
            extra_body=GREEDY,
        )
        assert json.loads(said.content[0].text) == {"name": "Tom", "age": 7}

    @pytest.mark.parametrize(
        ("choice", "called"), [({"type": "any"}, True), ({"type": "none"}, False)]
    )
    def test_tool_choice(self, messages, choice, called):
        said = messages.create(
            model="mlx",
            max_tokens=100,
            messages=CAPITAL if called else [{"role": "user", "content": ASK_WEATHER}],
            tools=[TOOL],
            tool_choice=choice,
            extra_body=GREEDY,
        )
        assert (said.stop_reason == "tool_use") is called

    @pytest.mark.parametrize("streamed", [True, False])
    def test_a_tool_round_trip(self, messages, model, streamed):
        asked = {"model": model, "max_tokens": 100, "tools": [TOOL], "extra_body": GREEDY}
        turns = [{"role": "user", "content": ASK_WEATHER}]
        if streamed:
            with messages.stream(messages=turns, **asked) as stream:
                said = stream.get_final_message()
        else:
            said = messages.create(messages=turns, **asked)
        (use,) = said.content
        assert (use.type, use.name, use.input) == ("tool_use", "get_weather", {"city": "Paris"})
        assert said.stop_reason == "tool_use"
        result = {"type": "tool_result", "tool_use_id": use.id, "content": RESULT}
        turns += [{"role": "assistant", "content": said.content}]
        turns += [{"role": "user", "content": [result]}]
        assert messages.create(messages=turns, **asked).content[0].text == SUNNY

    def test_an_answer_that_has_begun_is_gone_on_with(self, messages, model):
        begun = "The capital of Spain"
        turns = [*CAPITAL, {"role": "assistant", "content": begun}]
        said = messages.create(model=model, max_tokens=50, messages=turns, extra_body=GREEDY)
        # llama-server repeats what it goes on with, in its own dialects as well.
        assert said.content[0].text.removeprefix(begun) == ANSWER.removeprefix(begun)

    def test_tokens_are_counted(self, messages):
        asked = {"model": "mlx", "messages": CAPITAL, "system": "Be brief.", "tools": [TOOL]}
        counted = messages.count_tokens(**asked)
        answer = messages.create(max_tokens=4, **asked)
        assert counted.input_tokens == prompt_tokens(answer.usage)

    def test_tokens_of_more_than_fits_are_counted(self, messages):
        turns = [{"role": "user", "content": "one, two, three, " * 5000}]
        assert messages.count_tokens(model="mlx", messages=turns).input_tokens > 10_000

    def test_tokens_are_not_counted_by_engines_that_cannot(self, messages):
        with pytest.raises(anthropic.APIStatusError) as refused:
            messages.count_tokens(model="plain", messages=CAPITAL)
        assert refused.value.status_code == 501

    def test_what_a_chat_cannot_say(self, messages, model):
        search = {"type": "web_search_20250305", "name": "web_search"}
        with pytest.raises(anthropic.BadRequestError) as refused:
            messages.create(model=model, max_tokens=9, messages=CAPITAL, tools=[search])
        assert "`tools[0].type`" in refused.value.body["error"]["message"]

    async def test_the_async_sdk(self, translator, model):
        asked = {"max_tokens": 50, "messages": CAPITAL, "extra_body": GREEDY}
        async with (
            translator.async_anthropic() as client,
            client.messages.stream(model=model, **asked) as stream,
        ):
            final = await stream.get_final_message()
        assert final.content[0].text == ANSWER
