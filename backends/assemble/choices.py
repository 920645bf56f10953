"""`/v1/chat/completions` and `/v1/completions`: choices by index, each in deltas or pieces of text.

Fields that this file does not know are taken as they come, the last one wins. What is not text
stays the engine's own bytes, so numbers and log probabilities come out exactly as they came.
"""

from __future__ import annotations

from typing import Any

import msgspec

from backends.assemble.assembler import Assembler, BrokenStreamError, read_error

_JOINED = frozenset(("content", "reasoning_content", "reasoning", "refusal"))
"""Fields of a delta that come in pieces of text."""

_NULL = msgspec.Raw(b"null")
"""Raw equals Raw, and never bytes."""

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_objects = msgspec.json.Decoder(list[dict[str, msgspec.Raw]]).decode
_decode_items = msgspec.json.Decoder(list[msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str | None).decode
_decode_index = msgspec.json.Decoder(int).decode


class _Function(msgspec.Struct):
    name: str | None = None
    arguments: str | None = None


_decode_function = msgspec.json.Decoder(_Function).decode


class _Call:
    """A call of a function: its arguments come in pieces of JSON text."""

    def __init__(self) -> None:
        self.fields: dict[str, msgspec.Raw] = {}
        self.name = ""
        self.arguments: list[str] = []

    def add(self, piece: dict[str, msgspec.Raw]) -> int:
        function = piece.pop("function", _NULL)
        self.fields.update((name, value) for name, value in piece.items() if value != _NULL)
        return self.add_function(function) if function != _NULL else 0

    def add_function(self, raw: msgspec.Raw) -> int:
        function = _decode_function(raw)
        self.name = function.name or self.name
        arguments = function.arguments or ""
        self.arguments.append(arguments)
        return len(arguments)

    def function(self) -> dict[str, Any]:
        return {"name": self.name, "arguments": "".join(self.arguments)}

    def whole(self) -> dict[str, Any]:
        return {"type": "function", "function": self.function(), **self.fields}


class _Message:
    def __init__(self) -> None:
        self._fields: dict[str, Any] = {"role": "assistant"}
        self._pieces: dict[str, list[str]] = {"content": []}
        self._calls: dict[int, _Call] = {}
        self._function: _Call | None = None

    def add(self, delta: dict[str, msgspec.Raw]) -> int:
        size = 0
        for name, value in delta.items():
            if value == _NULL:
                continue
            if name in _JOINED:
                text = _decode_text(value) or ""
                self._pieces.setdefault(name, []).append(text)
                size += len(text)
            elif name == "tool_calls":
                size += sum(self._add_call(piece) for piece in _decode_objects(value))
            elif name == "function_call":
                self._function = self._function or _Call()
                size += self._function.add_function(value)
            else:
                self._fields[name] = value
        return size

    def _add_call(self, piece: dict[str, msgspec.Raw]) -> int:
        index = _decode_index(piece.pop("index", b"0"))
        return self._calls.setdefault(index, _Call()).add(piece)

    def whole(self) -> dict[str, Any]:
        message = dict(self._fields)
        for name, pieces in self._pieces.items():
            message[name] = "".join(pieces)
        if self._calls:
            message["tool_calls"] = [self._calls[index].whole() for index in sorted(self._calls)]
        if self._function is not None:
            message["function_call"] = self._function.function()
        return message


class _Choice:
    def __init__(self) -> None:
        self.finished = False
        self._fields: dict[str, msgspec.Raw] = {}
        self._text: list[str] = []
        self._message: _Message | None = None
        self._logprobs: dict[str, list[msgspec.Raw] | None] | None = None

    def add(self, piece: dict[str, msgspec.Raw]) -> int:
        """Take in one piece; returns about how many bytes of it are kept."""
        size = 0
        if (delta := piece.pop("delta", None)) is not None:
            self._message = self._message or _Message()
            size += self._message.add(_decode_fields(delta))
        elif (text := piece.pop("text", None)) is not None:
            self._text.append(_decode_text(text) or "")
            size += len(self._text[-1])
        logprobs = piece.get("logprobs")
        if logprobs is not None and logprobs != _NULL:
            size += self._add_logprobs(piece.pop("logprobs"))
        if piece.get("finish_reason", _NULL) != _NULL:
            self.finished = True
        self._fields.update(piece)
        return size

    def _add_logprobs(self, raw: msgspec.Raw) -> int:
        self._logprobs = self._logprobs or {}
        for name, value in _decode_fields(raw).items():
            items = self._logprobs.get(name) or []
            if value != _NULL:
                items.extend(_decode_items(value))
            self._logprobs[name] = items or None
        return len(bytes(raw))

    def whole(self) -> dict[str, Any]:
        choice: dict[str, Any] = dict(self._fields)
        if self._logprobs is not None:
            choice["logprobs"] = self._logprobs
        if self._message is not None:
            choice["message"] = self._message.whole()
        else:
            choice["text"] = "".join(self._text)
        return choice


class ChoicesAssembler(Assembler):
    """Both endpoints of choices; a chunk with a `delta` makes a `message`, one with `text` none.

    A message without content has `""`, where some engines say null. Of several choices'
    `usage`, the first choice's is taken if the engine tells one each; llama-server does the same.
    """

    def __init__(self, expected: int = 1) -> None:
        """`expected`: how many choices were asked for."""
        super().__init__()
        self._expected = expected
        self._done = False
        self._fields: dict[str, msgspec.Raw] = {}
        self._closing: dict[str, msgspec.Raw] = {}
        """What came with the end of the first choice, and until another choice goes on."""
        self._ended = -1
        self._choices: dict[int, _Choice] = {}

    def answer(self) -> dict[str, Any]:
        choices = self._choices
        # With [DONE] the engine says that there were no more choices than those that have begun.
        missing = not choices or (not self._done and len(choices) < self._expected)
        if missing or not all(choice.finished for choice in choices.values()):
            raise BrokenStreamError("the stream ended without a finish reason")
        whole = {"choices": [choices[index].whole() for index in sorted(choices)]}
        fields: dict[str, Any] = {**self._fields, **self._closing}
        if "object" in fields:
            fields["object"] = msgspec.Raw(bytes(fields["object"]).replace(b".chunk", b""))
        return {**whole, **fields}

    def _event(self, _name: bytes, data: bytes, /) -> None:
        if data == b"[DONE]":
            self._done = True
            return
        fields = _decode_fields(data)
        if fields.pop("error", _NULL) != _NULL:
            raise read_error(data)
        choices = fields.pop("choices", None)
        for piece in _decode_objects(choices) if choices is not None else ():
            self._piece(piece)
        if fields.get("usage") == _NULL:
            del fields["usage"]
        self._fields.update(fields)
        if self._ended == 0:
            self._closing.update(fields)

    def _piece(self, piece: dict[str, msgspec.Raw]) -> None:
        index = _decode_index(piece.get("index", b"0"))
        choice = self._choices.get(index)
        if choice is None:
            choice = self._choices[index] = _Choice()
        self.size += choice.add(piece)
        self._ended = index if choice.finished else -1
