"""Tool calls in the Hermes format, found in a stream of text. Pure.

A call is `<tool_call>`, a JSON object with `name` and `arguments`, `</tool_call>`. The format is
that of NousResearch's Hermes models, which Qwen and many others share. Text between the marks
that is no such object is handed on as it stands: nothing that a model wrote is lost.
"""

from __future__ import annotations

import msgspec

from backends.malformed import MALFORMED

START = "<tool_call>"
END = "</tool_call>"


class ToolCall(msgspec.Struct, frozen=True):
    """One call that the model wants made."""

    index: int
    """Its place among the calls of one answer."""
    name: str
    arguments: str
    """A JSON object, as text."""


class _Written(msgspec.Struct):
    """What stands between the marks."""

    name: str
    arguments: msgspec.Raw = msgspec.Raw(b"{}")
    """Kept as the model wrote it."""


class ToolCallParser:
    """Tells text from tool calls; one per sequence.

    A call leaves in one piece when its end mark is there: its arguments cannot be trusted to be
    an object before that.
    """

    def __init__(self) -> None:
        self.count = 0
        self._held = ""
        self._inside = False

    def add(self, text: str) -> tuple[str, tuple[ToolCall, ...]]:
        """The text outside calls and the calls completed, now that `text` has come."""
        if not text:
            return "", ()
        self._held += text
        out: list[str] = []
        calls: list[ToolCall] = []
        while self._step(out, calls):
            pass
        return "".join(out), tuple(calls)

    def rest(self) -> str:
        """What was held back, now that nothing more comes."""
        held, self._held = self._held, ""
        if self._inside:
            self._inside = False
            return START + held
        return "" if self.count and not held.strip() else held

    def _step(self, out: list[str], calls: list[ToolCall]) -> bool:
        """Move over the next mark; False when there is none yet."""
        mark = END if self._inside else START
        at = self._held.find(mark)
        if at < 0:
            if not self._inside:
                out.append(self._take(self._safe_length()))
            return False
        before = self._take(at)
        self._held = self._held[len(mark) :]
        if not self._inside:
            out.append(before.rstrip())
        elif (call := self._parse(before)) is not None:
            calls.append(call)
            self.count += 1
        else:
            out.append(START + before + END)
        self._inside = not self._inside
        return True

    def _take(self, length: int) -> str:
        taken, self._held = self._held[:length], self._held[length:]
        return taken

    def _safe_length(self) -> int:
        """How much of the held text can be no part of a start mark.

        White space at the end waits too: before a call it is a separator, not content.
        """
        for size in range(min(len(START) - 1, len(self._held)), 0, -1):
            if START.startswith(self._held[-size:]):
                return len(self._held[:-size].rstrip())
        return len(self._held.rstrip())

    def _parse(self, written: str) -> ToolCall | None:
        try:
            call = msgspec.json.decode(written.encode(), type=_Written)
        except (*MALFORMED, UnicodeEncodeError):
            return None
        arguments = bytes(call.arguments).decode()
        return ToolCall(self.count, call.name, arguments) if arguments.startswith("{") else None
