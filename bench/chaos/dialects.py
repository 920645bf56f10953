"""How each dialect asks a question, and what its answers say.

Pure: values in, a `Heard` is written down.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from bench.chaos.judge import Heard

_TOKENS = 400
Json = dict[str, Any]


class Dialect(NamedTuple):
    """One of the ways in which clients ask."""

    path: str
    asks: Callable[[str], Json]
    """The body of a request, but for `model`, `stream` and `temperature`."""
    event: Callable[[Heard, Json], None]
    """Takes note of an event."""
    whole: Callable[[Heard, Json], None]
    """Takes note of an answer in one piece."""
    streamed: Json = {}  # noqa: RUF012 — never changed
    """What else a request for a stream says."""
    ends_with_done: bool = False
    """Its streams end with `[DONE]`."""


def _chat_event(heard: Heard, event: Json) -> None:
    for choice in event.get("choices", ()):
        heard.text += choice["delta"].get("content") or ""
        heard.finish = choice.get("finish_reason") or heard.finish
    if event.get("usage"):
        heard.tokens = event["usage"]["completion_tokens"]


def _chat_whole(heard: Heard, answer: Json) -> None:
    choice = answer["choices"][0]
    heard.text, heard.finish = choice["message"]["content"], choice["finish_reason"]
    heard.tokens = answer["usage"]["completion_tokens"]


def _text_event(heard: Heard, event: Json) -> None:
    for choice in event.get("choices", ()):
        heard.text += choice["text"]
        heard.finish = choice.get("finish_reason") or heard.finish
    if event.get("usage"):
        heard.tokens = event["usage"]["completion_tokens"]


def _text_whole(heard: Heard, answer: Json) -> None:
    choice = answer["choices"][0]
    heard.text, heard.finish = choice["text"], choice["finish_reason"]
    heard.tokens = answer["usage"]["completion_tokens"]


def _response_event(heard: Heard, event: Json) -> None:
    match event["type"]:
        case "response.output_text.delta":
            heard.text += event["delta"]
        case "response.completed" | "response.incomplete":
            streamed, heard.done = heard.text, True
            _response_whole(heard, event["response"])
            if streamed != heard.text:
                heard.odd = "the last event has another text than all before it"
        case "error":
            heard.error = event["message"]


def _response_whole(heard: Heard, answer: Json) -> None:
    parts = [part for item in answer["output"] for part in item.get("content", ())]
    heard.text = "".join(part["text"] for part in parts)
    heard.finish = answer["status"]
    heard.tokens = answer["usage"]["output_tokens"]


def _message_event(heard: Heard, event: Json) -> None:
    match event["type"]:
        case "message_start" if heard.begun:
            heard.odd = "it begins twice"
        case "message_start":
            heard.begun = True
        case "content_block_delta":
            heard.text += event["delta"]["text"]
        case "message_delta":
            heard.finish = event["delta"]["stop_reason"]
            heard.tokens = event["usage"]["output_tokens"]
        case "message_stop":
            heard.done = True


def _message_whole(heard: Heard, answer: Json) -> None:
    heard.text = "".join(part["text"] for part in answer["content"])
    heard.finish, heard.tokens = answer["stop_reason"], answer["usage"]["output_tokens"]


def _chat(question: str) -> Json:
    return {"messages": [{"role": "user", "content": question}], "max_tokens": _TOKENS}


_USAGE = {"stream_options": {"include_usage": True}}
DIALECTS = {
    "chat": Dialect("/v1/chat/completions", _chat, _chat_event, _chat_whole, _USAGE, True),
    "completions": Dialect(
        "/v1/completions",
        lambda question: {"prompt": question, "max_tokens": 200},
        _text_event,
        _text_whole,
        _USAGE,
        True,
    ),
    "responses": Dialect(
        "/v1/responses",
        lambda question: {"input": question, "max_output_tokens": _TOKENS},
        _response_event,
        _response_whole,
    ),
    "messages": Dialect("/v1/messages", _chat, _message_event, _message_whole),
}
