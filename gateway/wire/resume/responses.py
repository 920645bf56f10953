"""Going on with a stream of `/v1/responses`: items, their parts, and events that repeat them whole.

Its events name the response, its items and the calls in them by ids that each try makes up anew.
Those that the client knows stay; the events are numbered on from the last one it has had.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from gateway.wire.resume.transcript import (
    DivergedError,
    Had,
    Splice,
    Transcript,
    as_object,
    decode,
    encode,
    last_of,
)

_ADDED = "response.output_item.added"
_ENDS = ("response.completed", "response.incomplete")
_INDEXES = ("content_index", "summary_index", "annotation_index")


class _Ids:
    """The ids of one try: its response, and its items in their order."""

    def __init__(self) -> None:
        self.response: str | None = None
        self.created: Any = None
        self.items: list[tuple[str, str]] = []
        """The id of each item, and of the call it is, or nothing."""
        self.kinds: list[tuple[Any, Any]] = []
        """What each item is, and the tool that it calls."""

    def note(self, event: dict[str, Any]) -> None:
        """Take note of the ids that `event` tells for the first time."""
        response = as_object(event.get("response"))
        if self.response is None and isinstance(response.get("id"), str):
            self.response, self.created = response["id"], response.get("created_at")
        if event.get("type") == _ADDED:
            item = as_object(event.get("item"))
            self.items.append((str(item.get("id") or ""), str(item.get("call_id") or "")))
            self.kinds.append((item.get("type"), item.get("name")))

    def where(self, event: dict[str, Any]) -> int:
        """Which item `event` is about, by its place among all; -1 where it is about none."""
        item = as_object(event.get("item"))
        wanted = event.get("item_id") or item.get("id")
        for place, (known, call) in enumerate(self.items):
            if wanted == known or (call and item.get("call_id") == call):
                return place
        return len(self.items) - 1 if "output_index" in event or item else -1

    def renamed_to(self, others: _Ids) -> dict[str, str]:
        """What each id of these is called among `others`, as far as both go."""
        names = {self.response: others.response}
        for mine, theirs in zip(self.items, others.items, strict=False):
            names |= dict(zip(mine, theirs, strict=True))
        return {mine: theirs for mine, theirs in names.items() if mine and theirs}


class ResponsesTranscript(Transcript):
    """What a client has had of a response."""

    def __init__(self) -> None:
        super().__init__()
        self._ids = _Ids()
        self._number: int | None = None

    @property
    def ending(self) -> bytes | None:
        """See `Transcript.ending`."""
        return b"" if any((kind, -1, None) in self.had.marks for kind in _ENDS) else None

    @property
    def plain_text(self) -> str | None:
        """See `Transcript.plain_text`."""
        had = self.had
        first = ("response.output_text.delta", 0, 0)
        alone = len(self._ids.items) <= 1 and had.channels <= {first}
        return had.text(first) if alone else None

    def splice(self, *, continued: bool = False) -> Splice:
        """See `Transcript.splice`."""
        return _ResponsesSplice(self.had, self._ids, self._number, continued=continued)

    def _note(self, name: bytes, data: bytes) -> None:
        del name
        if data == b"[DONE]":
            return
        event = as_object(decode(data))
        self._ids.note(event)
        number = event.get("sequence_number")
        self._number = number if isinstance(number, int) else self._number
        mark = _mark(event, self._ids)
        text = _text(event)
        if text is None:
            self._had.marks.add(mark)
            self._incomparable = self._incomparable or bool(event.get("delta"))
        else:
            self._had.add(mark, text)
            self._had.pieces += 1


class _ResponsesSplice(Splice):
    def __init__(self, had: Had, ids: _Ids, number: int | None, *, continued: bool) -> None:
        super().__init__(had)
        self._continued = continued
        self._known = ids
        self._ids = _Ids()
        self._number = number

    def _event(self, name: bytes, data: bytes) -> bytes:
        if data == b"[DONE]":
            return b"data: [DONE]\n\n"
        event = as_object(decode(data))
        self._ids.note(event)
        mark = _mark(event, self._ids)
        text = _text(event)
        if text is None:
            if self._left.had(mark):
                self._compare(event)
                return b""
            if self._continued and as_object(event.get("item")).get("type") == "reasoning":
                raise DivergedError("thinking behind the text that it was to go on from")
        else:
            new = self._left.take(mark, text)
            if not new:
                return b""
            if self._left.had((str(mark[0]).removesuffix("delta") + "done", *mark[1:])):
                raise DivergedError("more of a text that was at its end")
            if new != text and isinstance(event.get("logprobs"), list):
                event["logprobs"] = last_of(event["logprobs"], new)
            event["delta"] = new
        return self._written(name, event)

    def _compare(self, event: dict[str, Any]) -> None:
        """Whether an item that the client has seen begin is of the same kind in this try."""
        if event.get("type") != _ADDED:
            return
        mine = self._ids.kinds
        if mine != self._known.kinds[: len(mine)]:
            raise DivergedError("an item of another kind")

    def _written(self, name: bytes, event: dict[str, Any]) -> bytes:
        names = self._ids.renamed_to(self._known)
        event = _renamed(event, names)
        response = event.get("response")
        if isinstance(response, dict) and self._known.created is not None:
            response["created_at"] = self._known.created
        if "sequence_number" in event and self._number is not None:
            self._number += 1
            event["sequence_number"] = self._number
        return b"%sdata: %s\n\n" % (b"event: %s\n" % name if name else b"", encode(event))


def _mark(event: dict[str, Any], ids: _Ids) -> tuple[Hashable, ...]:
    """What an event is, and what it is about: the same in each try."""
    indexes = [event[field] for field in _INDEXES if isinstance(event.get(field), int)]
    place = ids.where(event)
    return event.get("type"), place, (indexes[0] if indexes else 0 if place >= 0 else None)


def _text(event: dict[str, Any]) -> str | None:
    """What a delta adds; None for an event that is none."""
    delta = event.get("delta")
    is_delta = str(event.get("type", "")).endswith(".delta")
    return delta if is_delta and isinstance(delta, str) else None


def _renamed(value: Any, names: dict[str, str], field: str = "") -> Any:
    """`value` with the ids in it that have another name; a text may well read like an id."""
    if isinstance(value, str):
        return names.get(value, value) if field == "id" or field.endswith("_id") else value
    if isinstance(value, list):
        return [_renamed(one, names) for one in value]
    if isinstance(value, dict):
        return {name: _renamed(one, names, name) for name, one in value.items()}
    return value
