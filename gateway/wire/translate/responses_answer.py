"""A chat's answer in the words of OpenAI's responses: a list of items, each with its own life.

An item is added, grows, and is done; a message and thinking have their text in content parts,
which are added and done as well. Every event is numbered. The last one holds the whole response.
The order is that of OpenAI's API reference, "Streaming events".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from gateway.wire.translate.chat import ChatAnswer, ChatUsage
from gateway.wire.translate.writer import AnswerWriter, Identity, Part, event

_INCOMPLETE = {"length": "max_output_tokens", "content_filter": "content_filter"}
"""Finish reasons of answers that are not whole, and why that is."""

_PART_EVENTS = {
    Part.THINKING: "response.reasoning_text",
    Part.TEXT: "response.output_text",
    Part.REFUSAL: "response.refusal",
    Part.CALL: "response.function_call_arguments",
}


class ResponsesWriter(AnswerWriter):
    """Writes one response."""

    def __init__(self, identity: Identity, asked: Mapping[str, Any]) -> None:
        """`asked`: the fields of the request that every response repeats; `model` is in it."""
        super().__init__()
        self._identity = identity
        self._asked = asked
        self._response: dict[str, Any] = {}
        self._base = identity.id
        self._items: list[dict[str, Any]] = []
        self._pieces: list[str] = []
        self._logprobs: list[msgspec.Raw] = []
        self._number = 0

    def begin(self, first: ChatAnswer) -> None:
        self._base = first.id.removeprefix("chatcmpl-") or self._identity.id
        self._response = {
            **self._asked,
            "id": f"resp_{self._base}",
            "object": "response",
            "created_at": self._identity.created if first.created is None else first.created,
            "status": "in_progress",
            "error": None,
            "incomplete_details": None,
            "model": first.model or self._asked["model"],
            "output": [],
            "usage": None,
        }
        self._put("response.created", response=self._response)
        self._put("response.in_progress", response=self._response)

    def begin_part(self, part: Part) -> None:
        if part is Part.THINKING:
            self._add_item({"type": "reasoning", "id": self._item_id("rs"), "summary": []})
        else:
            self._add_item({"type": "message", "id": self._item_id("msg"), "role": "assistant"})
        self._put_part("response.content_part.added", part=self._content(part))

    def begin_call(self, call_id: str, name: str) -> None:
        item_id = self._item_id("fc")
        call_id = call_id or f"call_{self._base}_{len(self._items)}"
        self._add_item(
            {
                "type": "function_call",
                "id": item_id,
                "call_id": call_id,
                "name": name,
                "arguments": "",
            }
        )

    def piece(self, part: Part, text: str, logprobs: list[msgspec.Raw]) -> None:
        self._pieces.append(text)
        self._logprobs += logprobs
        added = {"logprobs": logprobs} if part is Part.TEXT else {}
        self._put_piece(part, ".delta", delta=text, **added)

    def end_part(self, part: Part) -> None:
        item = self._items[-1]
        if part is Part.CALL:
            item["arguments"] = "".join(self._pieces)
            self._put_piece(part, ".done", name=item["name"], arguments=item["arguments"])
        else:
            content = self._content(part)
            self._put_piece(part, ".done", **_said(content))
            self._put_part("response.content_part.done", part=content)
            item["content"] = [content]
        self._pieces.clear()
        self._logprobs = []
        # An answer that was cut off was so in its last item; which one that is shows at the end.
        item["status"] = "completed"
        if self.finish_reason in _INCOMPLETE:
            item["status"] = "incomplete"
        self._put("response.output_item.done", output_index=self._index, item=item)

    def close_answer(self) -> None:
        reason = _INCOMPLETE.get(self.finish_reason or "")
        status = "completed" if reason is None else "incomplete"
        self._response |= {
            "status": status,
            "incomplete_details": None if reason is None else {"reason": reason},
            "output": self._items,
            "usage": None if self.usage is None else _usage(self.usage),
        }
        self._put(f"response.{status}", response=self._response)

    def answer(self) -> dict[str, Any]:
        return self._response

    @property
    def _index(self) -> int:
        return len(self._items) - 1

    def _item_id(self, prefix: str) -> str:
        return f"{prefix}_{self._base}_{len(self._items)}"

    def _add_item(self, item: dict[str, Any]) -> None:
        if item["type"] != "function_call":
            item["content"] = []
        item["status"] = "in_progress"
        self._items.append(item)
        self._put("response.output_item.added", output_index=self._index, item=item)

    def _content(self, part: Part) -> dict[str, Any]:
        """What has been said of the part that is open, as a content part."""
        text = "".join(self._pieces)
        match part:
            case Part.THINKING:
                return {"type": "reasoning_text", "text": text}
            case Part.REFUSAL:
                return {"type": "refusal", "refusal": text}
            case _:
                return {
                    "type": "output_text",
                    "text": text,
                    "annotations": [],
                    "logprobs": self._logprobs,
                }

    def _put_piece(self, part: Part, ending: str, **fields: Any) -> None:
        kind = _PART_EVENTS[part] + ending
        if part is Part.CALL:
            item = self._items[-1]
            self._put(kind, item_id=item["id"], output_index=self._index, **fields)
        else:
            self._put_part(kind, **fields)

    def _put_part(self, kind: str, **fields: Any) -> None:
        item = self._items[-1]
        self._put(kind, item_id=item["id"], output_index=self._index, content_index=0, **fields)

    def _put(self, kind: str, **fields: Any) -> None:
        self.put(event({"type": kind, "sequence_number": self._number, **fields}))
        self._number += 1


def _said(content: Mapping[str, Any]) -> dict[str, Any]:
    """What an event says that ends a part: as its content, without what only that has."""
    return {
        name: value for name, value in content.items() if name in ("text", "refusal", "logprobs")
    }


def _usage(usage: ChatUsage) -> dict[str, Any]:
    return {
        "input_tokens": usage.prompt_tokens,
        "input_tokens_details": {"cached_tokens": usage.cached, "cache_write_tokens": 0},
        "output_tokens": usage.completion_tokens,
        "output_tokens_details": {"reasoning_tokens": usage.thinking},
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
    }
