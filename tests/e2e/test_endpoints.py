"""The endpoints beside chat: embeddings, responses, and Anthropic's messages."""

from __future__ import annotations

import json
import math

import anthropic
import openai
import pytest

from tests.e2e.conftest import MLX
from tests.e2e.test_sdk import CAPITAL, WEATHER

ANSWER = "The capital of Spain is Madrid."
GREEDY = {"temperature": 0}
"""Anthropic's SDK has no such parameter any more; the engines do."""


def prompt_tokens(usage: anthropic.types.Usage) -> int:
    """Anthropic counts what came from a prompt cache apart."""
    return usage.input_tokens + (usage.cache_read_input_tokens or 0)


async def test_responses(sdk, engine):
    answer = await sdk(
        lambda c: c.responses.create(
            model=engine, input="What is the capital of Spain?", temperature=0
        )
    )
    assert answer.object == "response"
    assert answer.model == engine
    assert answer.status == "completed"
    assert answer.output_text == ANSWER


async def test_responses_stream(sdk, engine):
    events = await sdk.stream(
        lambda c: c.responses.create(
            model=engine, input="What is the capital of Spain?", temperature=0, stream=True
        )
    )
    kinds = [event.type for event in events]
    assert kinds[0] == "response.created"
    assert kinds[-1] == "response.completed"
    text = "".join(event.delta for event in events if event.type == "response.output_text.delta")
    assert text == ANSWER
    assert events[-1].response.model == engine


async def test_messages(house, engine):
    with house.anthropic() as client:
        answer = client.messages.create(
            model=engine, max_tokens=50, messages=CAPITAL, extra_body=GREEDY
        )
    assert answer.type == "message"
    assert answer.model == engine
    assert "".join(block.text for block in answer.content if block.type == "text") == ANSWER
    assert answer.stop_reason == "end_turn"
    assert prompt_tokens(answer.usage) > 5
    assert answer.usage.output_tokens > 3


async def test_messages_stream(house, engine):
    asked = {"model": engine, "max_tokens": 50, "messages": CAPITAL, "extra_body": GREEDY}
    with house.anthropic() as client, client.messages.stream(**asked) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    assert text == ANSWER
    assert final.model == engine
    assert final.stop_reason == "end_turn"


async def test_messages_with_a_tool(house, engine):
    function = WEATHER["function"]
    tool = {
        "name": function["name"],
        "description": function["description"],
        "input_schema": function["parameters"],
    }
    with house.anthropic() as client:
        answer = client.messages.create(
            model=engine,
            max_tokens=100,
            extra_body=GREEDY,
            tools=[tool],
            messages=[{"role": "user", "content": "What is the weather in Paris?"}],
        )
    used = [block for block in answer.content if block.type == "tool_use"]
    assert [(block.name, block.input) for block in used] == [("get_weather", {"city": "Paris"})]
    assert answer.stop_reason == "tool_use"


async def test_count_tokens(house, engine):
    with house.anthropic() as client:
        counted = client.messages.count_tokens(model=engine, messages=CAPITAL)
        answer = client.messages.create(model=engine, max_tokens=4, messages=CAPITAL)
    assert counted.input_tokens == prompt_tokens(answer.usage)


async def test_messages_of_a_model_that_does_not_exist(house):
    with house.anthropic() as client, pytest.raises(anthropic.NotFoundError) as missing:
        client.messages.create(model="mlxx", max_tokens=4, messages=CAPITAL)
    assert missing.value.body["type"] == "error"
    assert missing.value.body["error"]["type"] == "not_found_error"
    assert "Did you mean 'mlx'" in missing.value.body["error"]["message"]


async def test_embeddings(sdk, start_gateway, start_llama_server):
    server = start_llama_server("--embeddings", "--pooling", "mean")
    gateway = start_gateway(
        f"backends: {{embed: {{use: llama_server, replicas: ['{server.url}']}}}}\n"
        "models: {embed: {backend: embed}}\n"
    )
    client = sdk.client.with_options(base_url=gateway.base_url)
    texts = ["a red ball", "a red ball", "one, two, three"]
    found = await type(sdk)(client)(lambda c: c.embeddings.create(model="embed", input=texts))
    assert found.model == "embed"
    same, again, other = (one.embedding for one in found.data)
    assert len(same) == 128
    assert math.isclose(math.hypot(*same), 1, rel_tol=1e-3)
    assert same == pytest.approx(again, abs=1e-5)
    assert same != pytest.approx(other, abs=1e-2)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("rerank", {"query": "a ball", "documents": ["red", "blue"]}),
    ],
)
async def test_what_mlx_does_not_serve_is_said_clearly(house, path, body):
    status, _, answer = house.request("POST", f"/v1/{path}", {"model": MLX, **body})
    error = json.loads(answer)["error"]
    assert status == 501
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "endpoint_not_supported"
    assert f"/v1/{path}" in error["message"]


async def test_what_mlx_cannot_be_asked_is_said_in_anthropics_shape(house):
    search = {"type": "web_search_20250305", "name": "web_search"}
    with house.anthropic() as client, pytest.raises(anthropic.BadRequestError) as refused:
        client.messages.create(model=MLX, max_tokens=4, messages=CAPITAL, tools=[search])
    assert refused.value.body["type"] == "error"
    assert "`tools[0].type`" in refused.value.body["error"]["message"]


async def test_embeddings_of_a_server_that_was_not_started_for_them(sdk, http_engine):
    """llama-server answers 501, vLLM 404: the client is told the same."""
    with pytest.raises(openai.APIStatusError) as refused:
        await sdk(lambda c: c.embeddings.create(model=http_engine, input="a red ball"))
    assert refused.value.status_code == 501
    assert refused.value.code == "endpoint_not_supported"
