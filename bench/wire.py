"""The bytes that go over the wire: what a client asks and what the mock engine answers.

The answers have the shapes and sizes of vLLM's. The engine calls its model otherwise than the
client does, so that the gateway has to put the client's name back, as it must in real life.
"""

from __future__ import annotations

import msgspec

CLIENT_MODEL = "assistant"
ENGINE_MODEL = "Qwen/Qwen3-8B"
STAMP = b"0000000000000000000"
"""Where a paced chunk says when it was sent: nanoseconds of the monotonic clock, 19 digits."""
STAMP_BEGINS = b'"content":"'

_CONTENT = "The quick brown fox jumps over the lazy dog while the gateway counts its microseconds. "
_ID = "chatcmpl-4f1c2a9be07d4c3f9d1e5a6b7c8d9e0f"


class Plan(msgspec.Struct):
    """What the mock engine shall answer; rides along in the body as an unknown field."""

    chunks: int = 0
    """Events of a stream, without the final `[DONE]`; 0 for one JSON reply."""
    interval: float = 0.0
    """Seconds between the chunks of a stream; 0 for as fast as possible."""


class Ask(msgspec.Struct):
    """What the mock engine reads of a request."""

    bench: Plan = msgspec.field(default_factory=Plan)


def request(host: str, plan: Plan, key: str) -> bytes:
    """A whole HTTP request for a chat, about as long as a short conversation is."""
    body = msgspec.json.encode(
        {
            "model": CLIENT_MODEL,
            "messages": [
                {"role": "system", "content": "You are a helpful assistant. " + _CONTENT * 3},
                {"role": "user", "content": "Tell me about microseconds. " + _CONTENT},
            ],
            "temperature": 0.7,
            "max_tokens": 64,
            "user": "somebody",
            "stream": plan.chunks > 0,
            "bench": plan,
        }
    )
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\n"
        f"host: {host}\r\n"
        "accept: application/json\r\n"
        "content-type: application/json\r\n"
        "user-agent: AsyncOpenAI/Python 3.0.0\r\n"
        "x-stainless-lang: python\r\n"
        "x-stainless-async: async:asyncio\r\n"
        f"authorization: Bearer {key}\r\n"
        f"content-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def json_reply() -> bytes:
    """A whole HTTP response with one chat completion of about 600 bytes."""
    body = msgspec.json.encode(
        {
            "id": _ID,
            "object": "chat.completion",
            "created": 1760000000,
            "model": ENGINE_MODEL,
            "choices": [
                {
                    "index": 0,
                    "message": {"role": "assistant", "content": _CONTENT, "tool_calls": []},
                    "logprobs": None,
                    "finish_reason": "stop",
                    "stop_reason": None,
                }
            ],
            "service_tier": None,
            "system_fingerprint": None,
            "usage": {
                "prompt_tokens": 58,
                "total_tokens": 122,
                "completion_tokens": 64,
                "prompt_tokens_details": None,
            },
            "prompt_logprobs": None,
            "kv_transfer_params": None,
        }
    )
    return response(body)


def response(body: bytes, content_type: str = "application/json") -> bytes:
    """A whole HTTP response."""
    head = f"HTTP/1.1 200 OK\r\ncontent-type: {content_type}\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream; charset=utf-8\r\n"
    b"transfer-encoding: chunked\r\n\r\n"
)


def stream(chunks: int) -> list[bytes]:
    """The pieces of a stream's body, each an HTTP chunk with one event; the last ends it."""
    contents: list[dict[str, str]] = [{"role": "assistant", "content": ""}]
    contents += [{"content": STAMP.decode() + " word"}] * (chunks - 2)
    events = [_event(delta, None) for delta in contents] + [_event({}, "stop")]
    return [*map(_framed, events), _framed(b"data: [DONE]\n\n") + b"0\r\n\r\n"]


def _event(delta: dict[str, str], finish_reason: str | None) -> bytes:
    choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish_reason}
    shape = {
        "id": _ID,
        "object": "chat.completion.chunk",
        "created": 1760000000,
        "model": ENGINE_MODEL,
        "choices": [choice | {"token_ids": None}],
    }
    return b"data: " + msgspec.json.encode(shape) + b"\n\n"


def _framed(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)
