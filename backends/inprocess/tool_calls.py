"""Tool calls found in a stream of text. Pure.

Rules of this file:

- Text that is no call is handed on as it stands: nothing that a model wrote is lost.
- A call leaves when all of it is there and can be read, in one piece.
- Where the answer is streamed and calls are JSON, a call leaves as it is written instead, from
  when its head names a tool that was offered and an object of arguments begins. From there on it
  is a call, whatever comes: what was said cannot be taken back. If it then breaks, its arguments
  are what the model wrote, and no JSON.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import Enum, auto

import msgspec

from backends.inprocess.marks import unfinished
from backends.inprocess.tool_call_formats import ToolFormat, Tools, tool_names
from backends.inprocess.tool_call_json import HEAD, TAIL, ObjectEnd, WrittenCall, is_object

_NO_CALL = re.compile(
    r'\s*(?:[^\s{]|\{\s*(?:[^\s"]|"(?!(?:name|type|function|parameters|arguments)")[^"]*"))'
)
"""What a JSON call does not begin with, such as Llama's Python code, or an answer in JSON."""


class ToolCall(msgspec.Struct, frozen=True):
    """One call that the model wants made, or a piece of it."""

    index: int
    """Its place among the calls of one answer."""
    name: str
    """Empty where this goes on with the arguments of a call that has begun."""
    arguments: str
    """A JSON object, as text; all pieces together where it comes in pieces."""


class _State(Enum):
    OUTSIDE = auto()
    BODY = auto()
    """Behind a start mark."""
    ARGUMENTS = auto()
    """In the arguments of a JSON call that names a tool."""
    TAIL = auto()
    """Behind them."""


class ToolCallParser:
    """Tells text from tool calls; one per sequence.

    `tools` are those that the request offers. `eager` lets calls leave while they are written.
    """

    def __init__(self, tool_format: ToolFormat, tools: Tools, *, eager: bool) -> None:
        self.count = 0
        """Calls that have left."""
        self._format = tool_format
        self._tools = tools
        self._names = tool_names(tools)
        self._eager = eager
        self._mark = tool_format.start[0]
        self._state = _State.OUTSIDE
        self._held = ""
        self._searched = 0
        """How much of what is held is known to hold no end of the call."""
        self._opener = ""
        """What the call began with; handed on with it, should it be none."""
        self._object = ObjectEnd()
        self._name = ""
        self._written: list[str] = []
        """The arguments of a call that leaves in one piece."""
        self._said = False
        """Text has left: what comes now is no bare call."""
        self._out: list[str] = []
        self._calls: list[ToolCall] = []
        self._steps = {
            _State.OUTSIDE: self._outside,
            _State.BODY: self._body,
            _State.ARGUMENTS: self._arguments,
            _State.TAIL: self._tail,
        }

    @property
    def held(self) -> int:
        """Characters that nothing has been decided about."""
        return len(self._held)

    @property
    def inside(self) -> bool:
        """Whether a call has begun."""
        return self._state is not _State.OUTSIDE

    def add(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """The text outside calls, and the calls or pieces of them, now that `text` has come."""
        if self._is_plain(text):
            return text, ()
        self._held += text
        while self._held and self._steps[self._state]():
            pass
        return self._taken()

    def _is_plain(self, text: str) -> bool:
        """Whether `text` can have nothing to do with a call, which is so for nearly every piece."""
        if self._held or self._state is not _State.OUTSIDE:
            return not text
        if self._format.bare and not self._said:
            return not text
        return self._mark not in text and not text[-1:].isspace()

    def finish(self) -> tuple[str, tuple[ToolCall, ...]]:
        """The same for what was held back, now that nothing more comes."""
        held, self._held = self._held, ""
        state, self._state = self._state, _State.OUTSIDE
        if state is _State.BODY:
            self._settle(held, self._opener + held)
        elif state is _State.ARGUMENTS:
            self._say("".join([self._opener, *self._written]))
        elif not self._is_rest(state, held):
            self._say(held)
        return self._taken()

    def _is_rest(self, state: _State, held: str) -> bool:
        """Whether what is held at the end only surrounds calls."""
        if state is _State.TAIL:
            held = held.strip().removeprefix("}").lstrip()
            return self._format.end.startswith(held)
        return bool(self.count) and not held.strip()

    def _taken(self) -> tuple[str, tuple[ToolCall, ...]]:
        taken = "".join(self._out), tuple(self._calls)
        self._out.clear()
        self._calls.clear()
        return taken

    # ---- one step in each state; whether another may follow ----

    def _outside(self) -> bool:
        if self._format.bare and not self._said:
            if self.count:
                self._held = self._held.lstrip("; \n")
            if (stripped := self._held.lstrip()).startswith("{"):
                self._held = stripped
                self._begin("")
                return True
        start = self._format.start
        at = self._held.find(start)
        if at >= 0:
            self._say(self._held[:at].rstrip())
            self._held = self._held[at + len(start) :]
            self._begin(start)
            return True
        # White space at the end waits: before a call it is a separator, not content.
        safe = len(self._held[: unfinished(self._held, start)].rstrip())
        self._say(self._held[:safe])
        self._held = self._held[safe:]
        return False

    def _begin(self, opener: str) -> None:
        self._state = _State.BODY
        self._opener = opener
        self._searched = 0
        self._object = ObjectEnd()

    def _body(self) -> bool:
        if self._format.json:
            head = HEAD.match(self._held)
            if head is not None and head.group(1) in self._names:
                self._announce(head.group(1), head.group())
                self._held = self._held[head.end() :]
                return True
            if not self._format.end:
                return self._bare_object()
        if not (end := self._format.end):
            return False
        at = self._held.find(end, max(0, self._searched - len(end) + 1))
        if at < 0:
            self._searched = len(self._held)
            return False
        written, self._held = self._held[:at], self._held[at + len(end) :]
        self._state = _State.OUTSIDE
        self._settle(written, self._opener + written + end)
        return True

    def _bare_object(self) -> bool:
        """A JSON call without an end mark, whose head says nothing: all of it has to be there."""
        if _NO_CALL.match(self._held):
            self._said = True
            end = 0
        else:
            end = self._object.feed(self._held[self._searched :])
            if end < 0:
                self._searched = len(self._held)
                return False
            end += self._searched
        written, self._held = self._held[:end], self._held[end:]
        self._state = _State.OUTSIDE
        self._settle(written, self._opener + written)
        return True

    def _announce(self, name: str, head: str) -> None:
        self._state = _State.ARGUMENTS
        self._object = ObjectEnd()
        self._written = []
        self._name = name
        if self._eager:
            self._call(WrittenCall(name, ""))
            self._opener = ""
        else:
            self._opener += head

    def _arguments(self) -> bool:
        end = self._object.feed(self._held)
        over = end >= 0
        piece, self._held = (self._held[:end], self._held[end:]) if over else (self._held, "")
        if self._eager:
            self._calls.append(ToolCall(self.count - 1, "", piece))
        else:
            self._written.append(piece)
        if over:
            self._state = _State.TAIL
            if not self._eager:
                self._leave_whole()
        return over

    def _leave_whole(self) -> None:
        arguments = "".join(self._written)
        if is_object(arguments):
            self._call(WrittenCall(self._name, arguments))
        else:
            self._state = _State.OUTSIDE
            self._say(self._opener + arguments)

    def _tail(self) -> bool:
        """Move behind what closes a call; a model may forget the brace, or the end mark."""
        end = self._format.end
        closing = TAIL.match(self._held)
        rest = self._held[closing.end() :] if closing else self._held
        if end or not closing:
            rest = rest.lstrip()
        if rest.startswith(end) and (rest or closing):
            rest = rest[len(end) :]
        elif end.startswith(rest):
            return False
        elif closing is None and rest.startswith(","):  # further fields, of no use
            if (at := self._held.find(end)) < 0:
                return False
            rest = self._held[at + len(end) :]
        self._held = rest
        self._state = _State.OUTSIDE
        return True

    # ---- what leaves ----

    def _settle(self, written: str, text: str) -> None:
        """Hand on what stands between marks, as calls if it can be read, else as `text`."""
        try:
            calls: Sequence[WrittenCall] = self._format.parse(written, self._tools)
        except ValueError:
            self._say(text)
            return
        for call in calls:
            self._call(call)

    def _call(self, call: WrittenCall) -> None:
        self._calls.append(ToolCall(self.count, call.name, call.arguments))
        self.count += 1

    def _say(self, text: str) -> None:
        if text:
            self._out.append(text)
            self._said = self._said or not text.isspace()
