"""Harmony, in which OpenAI's open models write: messages on channels. Pure.

An answer is a row of messages, each a header, `<|message|>` and a body. The header says on which
channel it is (`analysis` is thinking, `final` and `commentary` are for the user) and to whom
(`to=functions.f` is a call of `f`, whose arguments are the body). The format is described in
OpenAI's cookbook, under "harmony response format".

A call leaves as text in Hermes' format, from which whoever reads tool calls can stream it.
"""

from __future__ import annotations

import re
from enum import Enum, auto

from backends.inprocess.marks import unfinished
from backends.inprocess.tool_call_formats import HERMES

START, CHANNEL, MESSAGE = "<|start|>", "<|channel|>", "<|message|>"
_ENDS = ("<|end|>", "<|call|>", "<|return|>", START)
MARKS = (CHANNEL, MESSAGE, "<|constrain|>", *_ENDS)
"""The tokens that give an answer its form; all of them are special."""
THOUGHT = f"{CHANNEL}analysis{MESSAGE}"
"""What thinking begins with."""
ANSWER = f"<|end|>{START}assistant{CHANNEL}final{MESSAGE}"
"""What stands between thinking and the answer."""
_MARK = MESSAGE[0]
_END = re.compile("|".join(map(re.escape, _ENDS)))
_ON_CHANNEL = re.compile(re.escape(CHANNEL) + r"\s*(\w+)")
_TO = re.compile(r"\bto=([\w.-]+)")
_FUNCTIONS = "functions."
_HEADER_BEGINS = (CHANNEL, START, "assistant", "to=")
_SURE_BEGINS = (MESSAGE[:2], "to=")
_MAX_HEADER = 256
"""Characters; what is longer is no header."""


class _State(Enum):
    HEADER = auto()
    THINKING = auto()
    ANSWER = auto()
    CALL = auto()


class HarmonyParser:
    """Tells thinking, answer and calls apart; one per sequence.

    A sequence begins behind `<|start|>assistant`, which the template has written.
    """

    over = False
    """Thinking may follow on an answer."""

    def __init__(self) -> None:
        self._state = _State.HEADER
        self._held = ""
        self._thought: list[str] = []
        self._said: list[str] = []
        self.tokens = 0
        """Tokens of thinking, marks and headers left out."""

    @property
    def held(self) -> int:
        """Characters that have come and not left."""
        return len(self._held)

    def add(self, text: str) -> tuple[str, str]:
        """The thinking and the answer that are certain now that `text` has come."""
        thinking = self._state is _State.THINKING
        if not self._held and self._state is not _State.HEADER and _MARK not in text:
            self.tokens += thinking
            return (text, "") if thinking else ("", text)
        self._held += text
        while self._held and (self._header() if self._state is _State.HEADER else self._body()):
            pass
        self.tokens += thinking and self._state is _State.THINKING
        return self._taken()

    def finish(self) -> tuple[str, str]:
        """The same for what was held back, now that nothing more comes."""
        held, self._held = self._held, ""
        if self._state is not _State.HEADER or not held.lstrip().startswith(_SURE_BEGINS):
            self._leave(held)
        return self._taken()

    def _header(self) -> bool:
        """Read a header, once it is all there."""
        at = self._held.find(MESSAGE)
        read = len(self._held) if at < 0 else at + len(MESSAGE) - 1
        if read > _MAX_HEADER or not _is_header(self._held.lstrip()):
            self._state = _State.ANSWER  # no message: the model writes as it likes
            return True
        if at < 0:
            return False
        header, self._held = self._held[:at], self._held[at + len(MESSAGE) :]
        to, channel = _TO.search(header), _ON_CHANNEL.search(header)
        if to is not None and to.group(1).startswith(_FUNCTIONS):
            name = to.group(1).removeprefix(_FUNCTIONS)
            self._said.append(f'{HERMES.start}{{"name": "{name}", "arguments": ')
            self._state = _State.CALL
        elif to is not None or (channel is not None and channel.group(1) == "analysis"):
            self._state = _State.THINKING
        else:
            self._state = _State.ANSWER
        return True

    def _body(self) -> bool:
        """Hand on a body, up to its end."""
        found = _END.search(self._held) if _MARK in self._held else None
        if found is None:
            safe = min(unfinished(self._held, end) for end in _ENDS)
            self._leave(self._held[:safe])
            self._held = self._held[safe:]
            return False
        self._leave(self._held[: found.start()])
        if self._state is _State.CALL:
            self._said.append("}" + HERMES.end)
        self._held = self._held[found.end() :]
        self._state = _State.HEADER
        return True

    def _leave(self, text: str) -> None:
        (self._thought if self._state is _State.THINKING else self._said).append(text)

    def _taken(self) -> tuple[str, str]:
        taken = "".join(self._thought), "".join(self._said)
        self._thought.clear()
        self._said.clear()
        return taken


def _is_header(text: str) -> bool:
    """Whether `text` is a header, or may become one."""
    return any(text.startswith(begin) or begin.startswith(text) for begin in _HEADER_BEGINS)
