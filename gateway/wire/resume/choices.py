"""Going on with a stream of `/v1/chat/completions` or `/v1/completions`.

What stays the same in all of its events (id, time, name of the model) is that of the first try.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

import msgspec

from backends.malformed import MALFORMED
from gateway.wire.resume.transcript import (
    DivergedError,
    Had,
    Splice,
    Transcript,
    as_object,
    as_objects,
    decode,
    encode,
    last_of,
)

_DATA = b"data: "
_DONE = b"[DONE]"
_LAST = b"data: [DONE]\n\n"
_HEAD = ("id", "object", "created", "model", "system_fingerprint", "service_tier")
"""Fields that are the same in each event of an answer."""
_TEXTS = ("text", "content", "reasoning_content", "reasoning", "refusal")
"""Fields with text; each is a channel. The first is that of `/v1/completions`."""
_ONCE = ("prompt_token_ids", "prompt_logprobs")
"""Of vLLM: fields about the prompt, which the first event of an answer has."""
_PLAIN = frozenset({"text", "content"})
_KNOWN = frozenset({*_TEXTS, "role", "tool_calls", "function_call"})
_ROLE, _FINISH, _USAGE = "role", "finish", "usage"


class _Text(msgspec.Struct, forbid_unknown_fields=True):
    content: str


class _Says(msgspec.Struct):
    delta: _Text
    index: Literal[0] = 0
    finish_reason: None = None
    token_ids: None = None


class _Plain(msgspec.Struct):
    """An event of a chat with text and nothing else."""

    choices: tuple[_Says]


_decode_plain = msgspec.json.Decoder(_Plain).decode


class ChoicesTranscript(Transcript):
    """One choice: who asked for several is not gone on with."""

    def __init__(self) -> None:
        super().__init__()
        self._head: dict[str, Any] = {}
        self._called: dict[Any, str] = {}
        """The tools that have been called, by the number of the call."""

    @property
    def ending(self) -> bytes | None:
        """See `Transcript.ending`."""
        marks = self.had.marks
        if _FINISH not in marks:
            return None
        return b"" if _DONE in marks else _LAST

    @property
    def has_usage(self) -> bool:
        """See `Transcript.has_usage`: behind the end, where it was asked for."""
        return _USAGE in self.had.marks

    @property
    def plain_text(self) -> str | None:
        """See `Transcript.plain_text`."""
        had = self.had
        if self.incomparable or self._called or not had.channels <= _PLAIN:
            return None
        return "".join(had.text(channel) for channel in _PLAIN)

    def splice(self, *, continued: bool = False) -> Splice:
        """See `Transcript.splice`."""
        return _ChoicesSplice(self.had, self._head, dict(self._called), continued=continued)

    def _note_plain(self, block: bytes) -> bool:
        if not self._head or not block.startswith(_DATA) or block.find(b"\n") != len(block) - 2:
            return False
        try:
            text = _decode_plain(block[len(_DATA) :]).choices[0].delta.content
        except MALFORMED:
            return False
        if text:
            self._had.add("content", text)
            self._had.pieces += 1
        return True

    def _note(self, name: bytes, data: bytes) -> None:
        del name
        if data == _DONE:
            self._had.marks.add(_DONE)
            return
        chunk = as_object(decode(data))
        for field in _HEAD:
            if field in chunk and field not in self._head:
                self._head[field] = chunk[field]
        choices = as_objects(chunk.get("choices"))
        for choice in choices:
            self._note_choice(choice)
        if chunk.get("usage") and not choices:
            self._had.marks.add(_USAGE)

    def _note_choice(self, choice: dict[str, Any]) -> None:
        had, part = self._had, _part(choice)
        said = False
        for field in _TEXTS:
            text = part.get(field)
            if isinstance(text, str) and text:
                had.add(field, text)
                said = True
        for call in _calls(part):
            number, function = call.get("index", 0), as_object(call.get("function"))
            if function.get("name"):
                self._called[number] = function["name"]
            had.add(("arguments", number), _arguments(function))
            said = True
        had.pieces += said
        had.token_ids += len(_token_ids(choice))
        if part.get("role"):
            had.marks.add(_ROLE)
        if choice.get("finish_reason"):
            had.marks.add(_FINISH)
        if choice.get("index") or _has_more(part):
            self._incomparable = True


class _ChoicesSplice(Splice):
    def __init__(
        self, had: Had, head: Mapping[str, Any], called: dict[Any, str], *, continued: bool
    ) -> None:
        super().__init__(had)
        self._head = head
        self._called = called
        self._continued = continued
        self._ids_left = 0 if continued else had.token_ids

    def _event(self, name: bytes, data: bytes) -> bytes:
        del name
        if data == _DONE:
            return _LAST
        chunk = as_object(decode(data))
        choices = as_objects(chunk.get("choices"))
        lacks = [self._trim(choice) for choice in choices]
        if not choices:
            was_counted = chunk.get("usage") and self._left.had(_USAGE)
            lacks = [self.caught_up and not was_counted]
        if not any(lacks):
            return b""
        for field, value in self._head.items():
            if field in chunk:
                chunk[field] = value
        for told in (chunk, *choices):
            for field in _ONCE:
                told.pop(field, None)
        return b"data: " + encode(chunk) + b"\n\n"

    def _trim(self, choice: dict[str, Any]) -> bool:
        """Take from `choice` what the client has had; whether it lacks any of the rest."""
        part, behind = _part(choice), not self.caught_up
        if behind and _has_more(part):
            raise DivergedError("something that cannot be compared")
        lacks = repeats = False
        for field in _TEXTS:
            text = part.get(field)
            if isinstance(text, str) and text:
                new = self._left.take(field, text)
                if new and self._continued and field not in _PLAIN:
                    raise DivergedError(f"{field} behind the text that it was to go on from")
                part[field] = new
                lacks, repeats = lacks or bool(new), repeats or new != text
        if calls := _calls(part):
            part["tool_calls"] = [call for call in calls if self._trim_call(call)]
            lacks, repeats = lacks or bool(part["tool_calls"]), True
            if not part["tool_calls"]:
                del part["tool_calls"]
        if part.get("role") and self._left.had(_ROLE):
            repeats = True
            del part["role"]
        if (ids := _token_ids(choice)) and self._ids_left:
            choice["token_ids"] = ids[self._ids_left :]
            self._ids_left = max(self._ids_left - len(ids), 0)
        if repeats and choice.get("logprobs"):
            choice["logprobs"] = _of_the_rest(choice["logprobs"], part)
        if choice.get("finish_reason") and not self._left.had(_FINISH):
            return True
        return lacks or not (behind or repeats or choice.get("finish_reason"))

    def _trim_call(self, call: dict[str, Any]) -> bool:
        number, function = call.get("index", 0), as_object(call.get("function"))
        name, known = function.get("name"), self._called.get(number)
        new = self._left.take(("arguments", number), _arguments(function))
        if known is None:
            function["arguments"] = new
            return bool(new or name)
        if name and name != known:
            raise DivergedError("a call of another tool")
        if not new:
            return False
        call.pop("id", None)  # the client has one, and the type
        call.pop("type", None)
        call["function"] = {"arguments": new}
        return True


def _part(choice: dict[str, Any]) -> dict[str, Any]:
    """Where in a choice its text is: a chat's delta, or a completion itself."""
    delta = choice.get("delta")
    return delta if isinstance(delta, dict) else choice


def _token_ids(choice: dict[str, Any]) -> list[Any]:
    """vLLM's `return_token_ids`: those of the event's text."""
    ids = choice.get("token_ids")
    return ids if isinstance(ids, list) else []


def _calls(part: dict[str, Any]) -> list[dict[str, Any]]:
    return as_objects(part.get("tool_calls"))


def _arguments(function: dict[str, Any]) -> str:
    """Those that an event tells of a call. Raises `TypeError` where they are no text."""
    arguments = function.get("arguments") or ""
    if not isinstance(arguments, str):
        raise TypeError("the arguments of a call are no text")
    return arguments


def _has_more(part: dict[str, Any]) -> bool:
    """Whether there is something in a delta that is neither text nor a call of a tool."""
    if part.get("function_call") or any(
        part.get(field) and not isinstance(part[field], str) for field in _TEXTS
    ):
        return True
    return "index" not in part and any(part[field] for field in part.keys() - _KNOWN)


def _of_the_rest(logprobs: Any, part: dict[str, Any]) -> Any:
    """The log-probabilities of the tokens at the end of an event of which a part was had: a list of
    objects, or the lists of `/v1/completions`, side by side.
    """
    told, rest = as_object(logprobs), part.get("content") or part.get("text") or ""
    if isinstance(entries := told.get("content"), list):
        return {**told, "content": last_of(entries, rest)}
    tokens = told.get("tokens")
    if not isinstance(tokens, list):
        return None
    had = len(tokens) - len(last_of([{"token": token} for token in tokens], rest))
    return {name: value[had:] if isinstance(value, list) else value for name, value in told.items()}
