"""An engine is killed in the middle, and nobody can go on: each SDK raises, in each dialect."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from typing import Any

import anthropic
import openai
import pytest

from tests.support.children import wait_until

TURNS = [{"role": "user", "content": "Tell me a story about Mia."}]


@pytest.fixture
def lone(start_gateway, start_llama_server):
    """A gateway over one llama-server that never comes to an end, and that."""
    engine = start_llama_server("--context-shift", "--ignore-eos")
    gateway = start_gateway(
        "backends:\n"
        f"  tale: {{use: llama_server, replicas: ['{engine.url}']}}\n"
        f"  chats: {{use: openai, replicas: ['{engine.url}'], without: [responses, messages]}}\n"
        "models: {tiny-tale: {backend: tale}, translated: {backend: chats, model: tiny-tale}}\n"
    )
    gateway.wait_model("tiny-tale")
    return gateway, engine


async def chat(client: openai.AsyncOpenAI) -> AsyncIterator[str]:
    stream = await client.chat.completions.create(
        model="tiny-tale", messages=TURNS, max_tokens=1_000_000, stream=True
    )
    async for chunk in stream:
        yield chunk.choices[0].delta.content or ""


async def completion(client: openai.AsyncOpenAI) -> AsyncIterator[str]:
    stream = await client.completions.create(
        model="tiny-tale", prompt="Once", max_tokens=1_000_000, stream=True
    )
    async for chunk in stream:
        yield chunk.choices[0].text


async def response(client: openai.AsyncOpenAI) -> AsyncIterator[str]:
    """As most loops are: they print what there is of text, and ask for nothing else."""
    stream = await client.responses.create(
        model="tiny-tale", input=TURNS, max_output_tokens=1_000_000, stream=True
    )
    async for event in stream:
        if event.type == "response.output_text.delta":
            yield event.delta


async def followed_response(client: openai.AsyncOpenAI) -> AsyncIterator[str]:
    """llama-server's own events lack the indexes that this needs, so they are made of a chat's."""
    async with client.responses.stream(
        model="translated", input=TURNS, max_output_tokens=1_000_000
    ) as stream:
        async for event in stream:
            if event.type == "response.output_text.delta":
                yield event.delta


async def message(client: anthropic.AsyncAnthropic) -> AsyncIterator[str]:
    async with client.messages.stream(
        model="tiny-tale", messages=TURNS, max_tokens=1_000_000
    ) as stream:
        async for text in stream.text_stream:
            yield text


async def translated_message(client: anthropic.AsyncAnthropic) -> AsyncIterator[str]:
    async with client.messages.stream(
        model="translated", messages=TURNS, max_tokens=1_000_000
    ) as stream:
        async for text in stream.text_stream:
            yield text


async def raw_message(client: anthropic.AsyncAnthropic) -> AsyncIterator[str]:
    stream = await client.messages.create(
        model="tiny-tale", messages=TURNS, max_tokens=1_000_000, stream=True
    )
    async for event in stream:
        if event.type == "content_block_delta":
            yield event.delta.text


@pytest.mark.parametrize("ask", [chat, completion, response, followed_response])
async def test_openais_raises(lone, ask: Callable[[Any], AsyncIterator[str]]):
    gateway, engine = lone
    async with gateway.async_openai() as client:
        with pytest.raises(openai.APIError, match=str(engine.port)) as broken:
            await read(ask(client), engine.kill)
    assert type(broken.value) is openai.APIError, "it began, so it has no status"
    assert broken.value.code == "upstream_failed"
    assert broken.value.type == "upstream_error"
    wait_until(lambda: gateway.outstanding() == 0, 2, "an attempt is still counted")


@pytest.mark.parametrize("ask", [message, translated_message, raw_message])
async def test_anthropics_raises(lone, ask: Callable[[Any], AsyncIterator[str]]):
    gateway, engine = lone
    async with gateway.async_anthropic() as client:
        with pytest.raises(anthropic.APIStatusError, match=str(engine.port)) as broken:
            await read(ask(client), engine.kill)
    assert broken.value.status_code == 200, "it is what the stream began with"
    assert broken.value.body["error"]["type"] == "api_error"


async def read(pieces: AsyncIterator[str], kill: Callable[[], None]) -> None:
    """Read on to the end, and see to it that it comes in the middle."""
    count = 0
    async for piece in pieces:
        count += bool(piece)
        if count == 20:
            kill()
    pytest.fail(f"it ended as if it were whole, after {count} pieces")
