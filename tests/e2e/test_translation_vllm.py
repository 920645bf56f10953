"""The same as `test_translation`, held against vLLM, which speaks all of the dialects itself."""

from __future__ import annotations

import pytest

from tests.e2e.test_endpoints import ANSWER, GREEDY, prompt_tokens
from tests.e2e.test_sdk import CAPITAL, COUNT
from tests.e2e.test_translation import (
    ASK,
    ASK_TOM,
    ASK_WEATHER,
    RESULT,
    SUNNY,
    TOOL,
    Person,
    routing,
)
from tests.support.gateway import GatewayProcess


@pytest.fixture(scope="module")
def in_front_of_vllm(children, vllm_server, tmp_path_factory):
    """A gateway in front of MLX and, twice, of one vLLM."""
    folder = tmp_path_factory.mktemp("in-front-of-vllm")
    gateway = GatewayProcess(children, folder, routing("vllm", vllm_server))
    gateway.wait_ready()
    for name in ("plain", "native"):
        gateway.wait_model(name)
    yield gateway
    gateway.stop()


class TestVllm:
    """The same of vLLM, whose own translation is the most complete one there is."""

    def test_a_response_is_what_the_engine_itself_gives(self, in_front_of_vllm):
        asked = {"input": ASK, "temperature": 0, "instructions": "Be brief."}
        with in_front_of_vllm.openai() as client:
            said, native = (
                client.responses.create(model=name, **asked) for name in ("plain", "native")
            )
            with client.responses.stream(model="plain", **asked) as stream:
                streamed = stream.get_final_response()
        assert said.output_text == streamed.output_text == native.output_text
        assert said.usage.input_tokens == native.usage.input_tokens
        assert said.usage.output_tokens == native.usage.output_tokens

    def test_a_message_is_what_the_engine_itself_gives(self, in_front_of_vllm):
        asked = {"max_tokens": 50, "messages": CAPITAL, "extra_body": GREEDY, "system": "Be brief."}
        with in_front_of_vllm.anthropic() as client:
            said, native = (
                client.messages.create(model=name, **asked) for name in ("plain", "native")
            )
            with client.messages.stream(model="plain", **asked) as stream:
                streamed = stream.get_final_message()
        assert said.content[0].text == streamed.content[0].text == native.content[0].text
        assert said.stop_reason == native.stop_reason == "end_turn"
        assert prompt_tokens(said.usage) == prompt_tokens(native.usage)
        assert prompt_tokens(streamed.usage) == prompt_tokens(native.usage)

    def test_which_stop_sequence_it_was_is_told(self, in_front_of_vllm):
        asked = {"max_tokens": 50, "messages": COUNT, "stop_sequences": [", 7", ", 5"]}
        with in_front_of_vllm.anthropic() as client:
            said = client.messages.create(model="plain", extra_body=GREEDY, **asked)
        assert (said.stop_reason, said.stop_sequence) == ("stop_sequence", ", 5")
        assert said.content[0].text == "1, 2, 3, 4"

    def test_a_tool_round_trip(self, in_front_of_vllm):
        asked = {"model": "plain", "max_tokens": 100, "tools": [TOOL], "extra_body": GREEDY}
        turns = [{"role": "user", "content": ASK_WEATHER}]
        with in_front_of_vllm.anthropic() as client:
            with client.messages.stream(messages=turns, **asked) as stream:
                said = stream.get_final_message()
            (use,) = said.content
            result = {"type": "tool_result", "tool_use_id": use.id, "content": RESULT}
            turns += [{"role": "assistant", "content": said.content}]
            turns += [{"role": "user", "content": [result]}]
            again = client.messages.create(messages=turns, **asked)
        assert (use.name, use.input, said.stop_reason) == (
            "get_weather",
            {"city": "Paris"},
            "tool_use",
        )
        assert again.content[0].text == SUNNY

    def test_an_answer_that_has_begun_is_gone_on_with(self, in_front_of_vllm):
        begun = "The capital of Spain"
        turns = [*CAPITAL, {"role": "assistant", "content": begun}]
        with in_front_of_vllm.anthropic() as client:
            said = client.messages.create(
                model="plain", max_tokens=50, messages=turns, extra_body=GREEDY
            )
        assert said.content[0].text == ANSWER.removeprefix(begun)

    def test_structured_output(self, in_front_of_vllm):
        with in_front_of_vllm.openai() as client:
            said = client.responses.parse(
                model="plain", input=ASK_TOM, temperature=0, text_format=Person
            )
        assert said.output_parsed == Person(name="Tom", age=7)
