"""What a client has had of one streamed answer, and what it lacks of another try at the same.

Rules of this file:

- Nothing is handed on twice, and nothing is left out: the text of another try is compared with
  what the client has had, character by character, and only what follows goes out.
- Where the two differ, that is said (`DivergedError`). Nobody guesses.
- To take note costs a stream that never breaks next to nothing: what goes out is only kept, and
  read when it matters, or when it gets much.

Each dialect has a file: it knows what in an event is text (by *channel*: content, reasoning, the
arguments of the second call, …), what happens only once (a *mark*: the role, the end of a block),
and where its ids are.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Hashable
from typing import Any

import msgspec

from backends.malformed import MALFORMED
from backends.sse import events

MAX_TEXT = 1 << 20
"""Characters of an answer that are kept: a longer one can no longer be gone on with."""
_THING = 64
"""Characters that a mark or a text's name counts as: an answer is not all text."""
_UNREAD = 64 << 10
"""Bytes of events that are kept as they came: about 300 tokens. Read, they are a tenth of it."""

_UNREADABLE = (*MALFORMED, TypeError)
"""What reading an event raises that is no JSON throughout, or has a list where a number should be.
Clients may well not mind, so that alone is no reason to end a stream."""

decode = msgspec.json.Decoder().decode
encode = msgspec.json.Encoder().encode


class DivergedError(Exception):
    """Another try says something else than the client has had already."""


class Had:
    """The texts and marks of an answer, as far as it has come."""

    def __init__(self) -> None:
        self.marks: set[Hashable] = set()
        self.pieces = 0
        """Events with text: with most engines, one for each token."""
        self.size = 0
        """Characters of all texts."""
        self.token_ids = 0
        """How many token ids came with them, where the client wanted some."""
        self._texts: dict[Hashable, list[str]] = {}
        self._packed: dict[Hashable, int] = {}
        """How many pieces of each text are long ones."""

    def add(self, channel: Hashable, text: str) -> None:
        """More of a text."""
        self._texts.setdefault(channel, []).append(text)
        self.size += len(text)

    def pack(self) -> None:
        """Put what has come since the last time together: a text of a few letters takes the room
        of fifty."""
        for channel, pieces in self._texts.items():
            at = min(self._packed.get(channel, 0), len(pieces))
            if len(pieces) > at + 1:
                pieces[at:] = ["".join(pieces[at:])]
            self._packed[channel] = len(pieces)

    @property
    def room(self) -> int:
        """About how much is kept, in characters."""
        return self.size + _THING * (len(self.marks) + len(self._texts))

    def text(self, channel: Hashable) -> str:
        """All of a text; empty where there is none."""
        pieces = self._texts.get(channel)
        if not pieces:
            return ""
        if len(pieces) > 1:
            pieces[:] = ["".join(pieces)]
        return pieces[0]

    @property
    def channels(self) -> frozenset[Hashable]:
        """Those that have text."""
        return frozenset(self._texts)


class Remaining:
    """What of an answer another try has still to repeat."""

    def __init__(self, had: Had) -> None:
        self._texts = {channel: had.text(channel) for channel in had.channels}
        self._at = dict.fromkeys(self._texts, 0)
        self._left = sum(map(len, self._texts.values()))
        self._marks = frozenset(had.marks)

    @property
    def characters(self) -> int:
        """How many are still to be repeated."""
        return self._left

    def had(self, mark: Hashable) -> bool:
        """Whether the client has had this already."""
        return mark in self._marks

    def take(self, channel: Hashable, text: str) -> str:
        """The part of `text` that is new to the client. Raises `DivergedError`."""
        said, at = self._texts.get(channel, ""), self._at.get(channel, 0)
        old = min(len(text), len(said) - at)
        if not old:
            return text
        if not said.startswith(text[:old], at):
            raise DivergedError(f"another text after {at} characters of {channel}")
        self._at[channel] = at + old
        self._left -= old
        return text[old:]


class Transcript(ABC):
    """What a client has had of one answer. `add` is told all that goes out."""

    def __init__(self) -> None:
        self.overfull = False
        """Whether the answer is longer than `MAX_TEXT`: then nothing more is kept."""
        self._incomparable = False
        self._had = Had()
        self._unread: list[bytes] = []
        self._unread_size = 0

    def add(self, block: bytes) -> None:
        """Take note of `block`, whole events that the client is given."""
        self._unread.append(block)
        self._unread_size += len(block)
        if self._unread_size > _UNREAD:
            self._read()

    @property
    def had(self) -> Had:
        """All that the client has had."""
        self._read()
        return self._had

    @property
    def incomparable(self) -> bool:
        """Whether something has come of which nobody here could tell if it comes once more."""
        self._read()
        return self._incomparable

    @property
    @abstractmethod
    def ending(self) -> bytes | None:
        """What the stream of an answer lacks that has come to its end: its last event, or nothing.

        None where the client does not know yet why the answer ends.
        """

    @property
    def has_usage(self) -> bool:
        """Whether the client has its usage, of an answer that has come to its end."""
        return True

    @property
    @abstractmethod
    def plain_text(self) -> str | None:
        """The answer so far, where it is text and nothing else; None where there is more to it."""

    @abstractmethod
    def splice(self, *, continued: bool = False) -> Splice:
        """What makes the rest of the answer out of another try at it.

        `continued`: that try goes on from the text, which it gives in one piece, and the tokens of
        which it does not tell.
        """

    @abstractmethod
    def _note(self, name: bytes, data: bytes) -> None:
        """Take note of one sound event."""

    def _note_plain(self, block: bytes) -> bool:  # noqa: ARG002 — a dialect may have none
        """Take note of a block that is one event with text and nothing else; whether it is.

        Most are: a short cut, and as it were never there.
        """
        return False

    def _read(self) -> None:
        unread, self._unread, self._unread_size = self._unread, [], 0
        if self.overfull:
            return
        for block in unread:
            if self._note_plain(block):
                continue
            for name, data, _ in events(block):
                try:
                    self._note(name, data)
                except _UNREADABLE:
                    self._incomparable = True
        self._had.pack()
        if self._had.room > MAX_TEXT:
            self.overfull, self._had = True, Had()


class Splice(ABC):
    """Makes of another try, from its beginning, the events that the client lacks."""

    def __init__(self, had: Had) -> None:
        self._left = Remaining(had)
        self.repeated = 0
        """Events of which the client has had the text: work that was done twice."""
        self.went_on = False
        """Whether there was anything that the client lacked."""

    @property
    def caught_up(self) -> bool:
        """Whether all that the client has had was said again."""
        return not self._left.characters

    def feed(self, block: bytes) -> bytes:
        """What of `block`, whole events, the client lacks. Raises `DivergedError`."""
        out = [self._lacking(name, data) for name, data, _ in events(block)]
        if not out:
            return block  # comments keep a connection alive
        lacked = b"".join(out)
        self.went_on = self.went_on or bool(lacked)
        return lacked

    def _lacking(self, name: bytes, data: bytes) -> bytes:
        before = self._left.characters
        try:
            out = self._event(name, data)
        except _UNREADABLE as error:
            raise DivergedError(f"an event that cannot be compared: {error}") from None
        left = self._left.characters
        if out and left:
            raise DivergedError(f"something new, {left} characters before the end of what was had")
        self.repeated += left != before
        return out

    @abstractmethod
    def _event(self, name: bytes, data: bytes) -> bytes:
        """What of one sound event the client lacks. Raises `DivergedError`."""


def as_object(value: Any) -> dict[str, Any]:
    """`value` where it is an object, else an empty one: engines send much."""
    return value if isinstance(value, dict) else {}


def as_objects(value: Any) -> list[dict[str, Any]]:
    """The objects in `value`, where it is a list."""
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def last_of(entries: list[Any], text: str) -> list[Any]:
    """Those at the end of `entries`, log-probabilities of tokens, whose tokens end `text`."""
    at = len(entries)
    while at and text:
        token = as_object(entries[at - 1]).get("token")
        if not isinstance(token, str) or not token or not text.endswith(token):
            break
        text = text[: len(text) - len(token)]
        at -= 1
    return entries[at:]
