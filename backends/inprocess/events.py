"""OpenAI's JSON bodies and server-sent events for chat and text completions. Pure.

A stream is: for chat, one chunk per choice with the role; chunks with content; one chunk per
choice with the finish reason; with `include_usage` a chunk with the usage and no choices; the
end mark. What does not change between two chunks of a reply is encoded once.

Thinking stands in `reasoning_content`: DeepSeek's name for it, which llama-server and SGLang have
too, and which clients look for first. vLLM calls it `reasoning`; to write both would double it.

A tool call begins with its id and name; its arguments follow in the same event or, piece by
piece, in those that come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from backends.inprocess.logprobs import TokenLogprobs
from backends.inprocess.text import Delta
from backends.inprocess.tool_calls import ToolCall

DONE = b"data: [DONE]\n\n"
_LEAST = -9999.0
"""In place of minus infinity, which JSON cannot say; vLLM's number."""
_encode = msgspec.json.Encoder().encode


class Usage(msgspec.Struct, frozen=True):
    """Tokens read and written for one request."""

    prompt_tokens: int
    completion_tokens: int
    reasoning_tokens: int | None = None
    """Those of the tokens written that are thinking; None where the model has no marks for it."""
    cached_tokens: int = 0
    """Those of the tokens read that had been computed for an earlier prompt."""

    def body(self) -> dict[str, object]:
        """As it stands in an answer."""
        body: dict[str, object] = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
        if self.reasoning_tokens is not None:
            body["completion_tokens_details"] = {"reasoning_tokens": self.reasoning_tokens}
        return body


class Writer:
    """Writes one reply of one of the two endpoints.

    `reply_id` is unique, without its prefix; `created` is in Unix seconds; `piece` tells what a
    token stands for.
    """

    prefix: str
    stream_object: str
    whole_object: str

    def __init__(
        self, *, reply_id: str, created: int, model: str, piece: Callable[[int], bytes]
    ) -> None:
        self._piece = piece
        self._head = {"id": self.prefix + reply_id, "created": created, "model": model}
        head = _encode({**self._head, "object": self.stream_object})
        self._before = b"data: " + head[:-1] + b',"choices":['
        self._after = b"]}\n\n"

    def opening(self, choices: int) -> bytes:
        """What a stream begins with."""
        raise NotImplementedError

    def delta(self, delta: Delta) -> bytes:
        """The events for `delta`; none where it says nothing."""
        raise NotImplementedError

    def usage(self, usage: Usage) -> bytes:
        """The event with the usage."""
        return self._before + b'],"usage":' + _encode(usage.body()) + b"}\n\n"

    def whole(self, answers: Sequence[Sequence[Delta]], usage: Usage) -> bytes:
        """The body of a reply that is no stream: the deltas of each choice, in order.

        Tool calls are whole.
        """
        choices = [self._choice(index, deltas) for index, deltas in enumerate(answers)]
        head = {**self._head, "object": self.whole_object}
        return _encode({**head, "choices": choices, "usage": usage.body()})

    def _choice(self, index: int, deltas: Sequence[Delta]) -> dict[str, object]:
        raise NotImplementedError

    def _logprobs(self, logprobs: Sequence[TokenLogprobs]) -> dict[str, object] | None:
        """Log-probabilities as the dialect has them; None where there are none."""
        raise NotImplementedError

    def _event(self, choice: bytes) -> bytes:
        return self._before + choice + self._after


class ChatWriter(Writer):
    """`/v1/chat/completions`. `call_id` makes the id of a tool call."""

    prefix = "chatcmpl-"
    stream_object = "chat.completion.chunk"
    whole_object = "chat.completion"

    def __init__(
        self,
        *,
        reply_id: str,
        created: int,
        model: str,
        call_id: Callable[[], str],
        piece: Callable[[int], bytes],
    ) -> None:
        super().__init__(reply_id=reply_id, created=created, model=model, piece=piece)
        self._call_id = call_id

    def opening(self, choices: int) -> bytes:
        """The role of each choice."""
        role = b'{"role":"assistant","content":""}'
        return b"".join(self._chunk(index, role) for index in range(choices))

    def delta(self, delta: Delta) -> bytes:
        """Thinking, content, tool calls and the finish reason, each in an event of its own.

        The first of them has the log-probabilities.
        """
        parts: list[bytes] = []
        if delta.reasoning:
            parts.append(b'{"reasoning_content":' + _encode(delta.reasoning) + b"}")
        if delta.text:
            parts.append(b'{"content":' + _encode(delta.text) + b"}")
        for call in delta.tool_calls:
            body = _encode([{"index": call.index, **self._call(call)}])
            parts.append(b'{"tool_calls":' + body + b"}")
        logprobs = _encode(self._logprobs(delta.logprobs)) if delta.logprobs else b"null"
        out = b""
        for part in parts:
            out += self._chunk(delta.index, part, logprobs=logprobs)
            logprobs = b"null"
        if delta.finish is not None:
            out += self._chunk(delta.index, b"{}", _reason(delta), logprobs)
        return out

    def _chunk(
        self, index: int, delta: bytes, finish: bytes = b"null", logprobs: bytes = b"null"
    ) -> bytes:
        return self._event(
            b'{"index":%d,"delta":%b,"logprobs":%b,"finish_reason":%b}'
            % (index, delta, logprobs, finish)
        )

    def _choice(self, index: int, deltas: Sequence[Delta]) -> dict[str, object]:
        text = "".join(delta.text for delta in deltas)
        thought = "".join(delta.reasoning for delta in deltas)
        calls = [self._call(call) for delta in deltas for call in delta.tool_calls]
        message: dict[str, object] = {"role": "assistant", "content": text}
        if thought:
            message["reasoning_content"] = thought
        if calls:
            message |= {"content": text or None, "tool_calls": calls}
        return {
            "index": index,
            "message": message,
            "logprobs": self._logprobs([entry for delta in deltas for entry in delta.logprobs]),
            "finish_reason": deltas[-1].finish,
            **_stop_reason(deltas[-1]),
        }

    def _logprobs(self, logprobs: Sequence[TokenLogprobs]) -> dict[str, object] | None:
        if not logprobs:
            return None
        content = [
            {**self._token(entry.token, entry.logprob), "top_logprobs": self._top(entry)}
            for entry in logprobs
        ]
        return {"content": content, "refusal": None}

    def _top(self, entry: TokenLogprobs) -> list[dict[str, object]]:
        return [self._token(token, logprob) for token, logprob in entry.top]

    def _token(self, token: int, logprob: float) -> dict[str, object]:
        piece = self._piece(token)
        text = piece.decode(errors="replace")
        return {"token": text, "logprob": max(logprob, _LEAST), "bytes": list(piece)}

    def _call(self, call: ToolCall) -> dict[str, object]:
        if not call.name:
            return {"function": {"arguments": call.arguments}}
        function = {"name": call.name, "arguments": call.arguments}
        return {"id": self._call_id(), "type": "function", "function": function}


def _stop_reason(last: Delta) -> dict[str, object]:
    """Which stop string ended a choice, if one did, in vLLM's field."""
    return {} if last.stop_reason is None else {"stop_reason": last.stop_reason}


def _reason(last: Delta) -> bytes:
    """Why a choice has ended, as the value of `finish_reason` and what may follow it."""
    reason = _encode(last.finish)
    if last.stop_reason is None:
        return reason
    return reason + b',"stop_reason":' + _encode(last.stop_reason)


class CompletionWriter(Writer):
    """`/v1/completions`."""

    prefix = "cmpl-"
    stream_object = whole_object = "text_completion"

    def opening(self, choices: int) -> bytes:  # noqa: ARG002 — the dialect has no opening
        """Nothing."""
        return b""

    def delta(self, delta: Delta) -> bytes:
        """One event, where there is anything to say."""
        if not delta.text and delta.finish is None:
            return b""
        logprobs = _encode(self._logprobs(delta.logprobs)) if delta.logprobs else b"null"
        return self._event(
            b'{"index":%d,"text":%b,"logprobs":%b,"finish_reason":%b}'
            % (delta.index, _encode(delta.text), logprobs, _encode(delta.finish))
        )

    def _choice(self, index: int, deltas: Sequence[Delta]) -> dict[str, object]:
        return {
            "index": index,
            "text": "".join(delta.text for delta in deltas),
            "logprobs": self._logprobs([entry for delta in deltas for entry in delta.logprobs]),
            "finish_reason": deltas[-1].finish,
        }

    def _logprobs(self, logprobs: Sequence[TokenLogprobs]) -> dict[str, object] | None:
        if not logprobs:
            return None
        values = [max(entry.logprob, _LEAST) for entry in logprobs]
        # The token itself is always among them: one more than was asked for, at times.
        tops = [
            {self._name(token): max(value, _LEAST) for token, value in (*entry.top, own)}
            for entry in logprobs
            for own in ((entry.token, entry.logprob),)
        ]
        return {
            "tokens": [self._name(entry.token) for entry in logprobs],
            "token_logprobs": values,
            "top_logprobs": tops if any(entry.top for entry in logprobs) else None,
            "text_offset": [entry.offset for entry in logprobs],
        }

    def _name(self, token: int) -> str:
        """A token as this endpoint names it: the bytes of half a character would be no text."""
        piece = self._piece(token)
        try:
            return piece.decode()
        except UnicodeDecodeError:
            return "bytes:" + "".join(f"\\x{byte:02x}" for byte in piece)
