"""What a client gets: through the SDK that people use, and as bytes underneath it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import anthropic
import httpx2
import openai

from tests.faults import speech
from tests.faults.speech import Speech
from tests.support.inprocess import Running
from tests.support.upstream import Script

PROMPT = "Hello"


@dataclass
class Heard:
    """One answer, as its client sees it."""

    status: int = 0
    headers: Any = None
    raw: bytes = b""
    """The body, byte for byte."""
    text: str = ""
    model: str | None = None
    complete: bool = False
    """The SDK takes it for a whole answer, its dialect's word for that included."""
    error: Exception | None = None
    """What the SDK raises."""


class _Recorder(httpx2.AsyncBaseTransport):
    """Writes down what passes."""

    def __init__(self, heard: Heard) -> None:
        self._heard = heard
        self._inner = httpx2.AsyncHTTPTransport(verify=False)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        response = await self._inner.handle_async_request(request)
        self._heard.status = response.status_code
        self._heard.headers = response.headers
        stream = response.stream
        assert isinstance(stream, httpx2.AsyncByteStream)
        response.stream = _Recorded(stream, self._heard)
        return response

    async def aclose(self) -> None:
        await self._inner.aclose()


@dataclass
class _Recorded(httpx2.AsyncByteStream):
    inner: httpx2.AsyncByteStream
    heard: Heard

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for piece in self.inner:
            self.heard.raw += piece
            yield piece

    async def aclose(self) -> None:
        await self.inner.aclose()


Listen = Callable[[Any, Heard, bool, dict[str, Any]], Awaitable[None]]


async def _chat(client: Any, heard: Heard, streamed: bool, fields: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    ask = client.chat.completions.create(
        messages=messages, stream=streamed, temperature=0, **fields
    )
    if not streamed:
        answer = await ask
        heard.text, heard.model = answer.choices[0].message.content, answer.model
        heard.complete = answer.choices[0].finish_reason == "stop"
        return
    finished = None
    async for chunk in await ask:
        heard.model = chunk.model or heard.model
        for choice in chunk.choices:
            heard.text += choice.delta.content or ""
            finished = choice.finish_reason or finished
    heard.complete = finished == "stop" and heard.raw.endswith(b"data: [DONE]\n\n")


async def _completions(client: Any, heard: Heard, streamed: bool, fields: dict[str, Any]) -> None:
    ask = client.completions.create(prompt=PROMPT, stream=streamed, temperature=0, **fields)
    if not streamed:
        answer = await ask
        heard.text, heard.model = answer.choices[0].text, answer.model
        heard.complete = answer.choices[0].finish_reason == "stop"
        return
    finished = None
    async for chunk in await ask:
        heard.model = chunk.model or heard.model
        for choice in chunk.choices:
            heard.text += choice.text
            finished = choice.finish_reason or finished
    heard.complete = finished == "stop" and heard.raw.endswith(b"data: [DONE]\n\n")


async def _responses(client: Any, heard: Heard, streamed: bool, fields: dict[str, Any]) -> None:
    ask = client.responses.create(input=PROMPT, stream=streamed, temperature=0, **fields)
    if not streamed:
        answer = await ask
        heard.text, heard.model = answer.output_text, answer.model
        heard.complete = answer.status == "completed"
        return
    async for event in await ask:
        match event.type:
            case "response.created":
                heard.model = event.response.model
            case "response.output_text.delta":
                heard.text += event.delta
            case "response.completed":
                assert event.response.output_text == heard.text
                heard.complete = True
            case "error":
                raise openai.OpenAIError(event.message)


async def _messages(client: Any, heard: Heard, streamed: bool, fields: dict[str, Any]) -> None:
    messages = [{"role": "user", "content": PROMPT}]
    ask = client.messages.create(
        messages=messages,
        max_tokens=64,
        stream=streamed,
        extra_body={"temperature": 0, **fields.pop("extra_body", {})},
        **fields,
    )
    if not streamed:
        answer = await ask
        heard.text, heard.model = answer.content[0].text, answer.model
        heard.complete = answer.stop_reason == "end_turn"
        return
    stopped = None
    async for event in await ask:
        match event.type:
            case "message_start":
                heard.model = event.message.model
            case "content_block_delta":
                heard.text += event.delta.text
            case "message_delta":
                stopped = event.delta.stop_reason
            case "message_stop":
                heard.complete = stopped == "end_turn"


@dataclass(frozen=True)
class Dialect:
    """What a client speaks, and what its engine does: not the same where it is translated."""

    listen: Listen
    speech: Speech
    sdk: Any = openai.AsyncOpenAI
    prefix: str = "/v1"
    without: tuple[str, ...] = field(default=())
    """What the engine is said to lack."""

    def sound(self, streamed: bool) -> Script:
        """What an engine without fault does."""
        return self.speech.good if streamed else self.speech.answer

    async def ask(
        self,
        gateway: Running,
        model: str,
        streamed: bool,
        padding: int = 0,
        heard: Heard | None = None,
    ) -> Heard:
        """Ask for `model` and listen to the end, whatever that is; `heard` grows meanwhile."""
        heard = heard or Heard()
        client = self.sdk(
            base_url=f"http://127.0.0.1:{gateway.port}{self.prefix}",
            api_key="none",
            max_retries=0,
            timeout=20,
            http_client=httpx2.AsyncClient(transport=_Recorder(heard), trust_env=False),
        )
        fields: dict[str, Any] = {"model": model}
        if padding:
            fields["extra_body"] = {"padding": "x" * padding}
        try:
            await self.listen(client, heard, streamed, fields)
        except (openai.OpenAIError, anthropic.AnthropicError, httpx2.TransportError) as error:
            heard.error = error
        finally:
            await client.close()
        return heard


_LACKS = ("responses", "messages", "count_tokens")
CHAT = Dialect(_chat, speech.CHAT_SPEECH)
OTHERS = {
    "completions": Dialect(_completions, speech.COMPLETIONS),
    "responses": Dialect(_responses, speech.RESPONSES),
    "messages": Dialect(_messages, speech.MESSAGES, anthropic.AsyncAnthropic, ""),
    "responses, translated": Dialect(_responses, speech.CHAT_SPEECH, without=_LACKS),
    "messages, translated": Dialect(
        _messages, speech.CHAT_SPEECH, anthropic.AsyncAnthropic, "", without=_LACKS
    ),
}
