"""A chat's answer in Anthropic's words: a message of blocks, one after the other.

The order of events is that of Anthropic's streaming documentation: `message_start`; for each
block a start, deltas and a stop; `message_delta` with the reason and the usage; `message_stop`.
How many tokens the prompt has is known at the end only, where SDKs take it from as well.
"""

from __future__ import annotations

from typing import Any

import msgspec

from backends.malformed import MALFORMED
from gateway.wire.translate.chat import ChatAnswer
from gateway.wire.translate.writer import (
    AnswerWriter,
    Identity,
    Part,
    UntranslatableAnswerError,
    event,
)

_CUT_OFF = "length"
_STOP_REASONS = {
    "stop": "end_turn",
    _CUT_OFF: "max_tokens",
    "tool_calls": "tool_use",
    "function_call": "tool_use",
    "content_filter": "refusal",
}


class MessagesWriter(AnswerWriter):
    """Writes one message."""

    def __init__(self, identity: Identity, model: str) -> None:
        """`model`: what it is called where the engine does not say."""
        super().__init__()
        self._identity = identity
        self._message: dict[str, Any] = {"model": model}
        self._blocks: list[dict[str, Any]] = []
        self._pieces: list[str] = []
        self._refused = False

    def begin(self, first: ChatAnswer) -> None:
        self._message = {
            "id": "msg_" + (first.id.removeprefix("chatcmpl-") or self._identity.id),
            "type": "message",
            "role": "assistant",
            "model": first.model or self._message["model"],
            "content": [],
            "stop_reason": None,
            "stop_sequence": None,
            "usage": {"input_tokens": 0, "output_tokens": 0},
        }
        self.put(event({"type": "message_start", "message": self._message}))

    def begin_part(self, part: Part) -> None:
        if part is Part.THINKING:
            self._begin_block({"type": "thinking", "thinking": "", "signature": ""})
            return
        self._refused = self._refused or part is Part.REFUSAL
        self._begin_block({"type": "text", "text": ""})

    def begin_call(self, call_id: str, name: str) -> None:
        call_id = call_id or f"toolu_{self._message['id']}_{len(self._blocks)}"
        self._begin_block({"type": "tool_use", "id": call_id, "name": name, "input": {}})

    def piece(self, part: Part, text: str, logprobs: list[msgspec.Raw]) -> None:  # noqa: ARG002 — none here
        if not text:
            return
        self._pieces.append(text)
        match part:
            case Part.THINKING:
                delta = {"type": "thinking_delta", "thinking": text}
            case Part.CALL:
                delta = {"type": "input_json_delta", "partial_json": text}
            case _:
                delta = {"type": "text_delta", "text": text}
        index = len(self._blocks) - 1
        self.put(event({"type": "content_block_delta", "index": index, "delta": delta}))

    def end_part(self, part: Part) -> None:
        block, text = self._blocks[-1], "".join(self._pieces)
        self._pieces.clear()
        if part is Part.CALL:
            block["input"] = text  # read when it is known whether it was cut off
        else:
            block["thinking" if part is Part.THINKING else "text"] = text
        self.put(event({"type": "content_block_stop", "index": len(self._blocks) - 1}))

    def close_answer(self) -> None:
        for block in self._blocks:
            if block["type"] == "tool_use":
                block["input"] = self._input(block["input"])
        ending = {"stop_reason": self._reason(), "stop_sequence": self._stop_sequence()}
        usage = self._usage()
        self._message |= {"content": self._blocks, **ending, "usage": usage}
        self.put(event({"type": "message_delta", "delta": ending, "usage": usage}))
        self.put(event({"type": "message_stop"}))

    def answer(self) -> dict[str, Any]:
        return self._message

    def _begin_block(self, block: dict[str, Any]) -> None:
        index = len(self._blocks)
        self._blocks.append(block)
        self.put(event({"type": "content_block_start", "index": index, "content_block": block}))

    def _input(self, text: str) -> dict[str, Any]:
        """A tool's input; empty where the answer was cut off in the midst of it."""
        try:
            value = msgspec.json.decode(text) if text.strip() else {}
        except MALFORMED:
            value = None
        if isinstance(value, dict):
            return value
        if self.finish_reason == _CUT_OFF:
            return {}
        raise UntranslatableAnswerError("called a tool with arguments that are no JSON object")

    def _reason(self) -> str:
        if self._refused:
            return "refusal"
        if self._stop_sequence() is not None:
            return "stop_sequence"
        reason = _STOP_REASONS.get(self.finish_reason or "", "end_turn")
        return "tool_use" if reason == "end_turn" and self.called else reason

    def _stop_sequence(self) -> str | None:
        """Which of the stop strings ended it, where the engine says so."""
        told = self.finish_reason == "stop" and isinstance(self.stop_reason, str)
        return self.stop_reason if told else None

    def _usage(self) -> dict[str, int]:
        """Anthropic counts what came from a prompt cache apart."""
        usage = self.usage
        if usage is None:
            return {"input_tokens": 0, "output_tokens": 0}
        return {
            "input_tokens": usage.prompt_tokens - usage.cached,
            "cache_creation_input_tokens": 0,
            "cache_read_input_tokens": usage.cached,
            "output_tokens": usage.completion_tokens,
        }
