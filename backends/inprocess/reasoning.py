"""What a model thinks aloud, told apart from what it says. Pure.

Rules of this file:

- Thinking stands at the beginning of an answer, or nowhere: later marks are text.
- White space around thinking separates; it belongs neither to it nor to the answer.
- An answer that ends while the model thinks has no content.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType

import msgspec

from backends.inprocess import harmony
from backends.inprocess.marks import unfinished


class ReasoningFormat(msgspec.Struct, frozen=True):
    """What a model puts around its thinking."""

    start: str
    end: str
    assumed: bool = False
    """An answer begins with thinking even where neither prompt nor answer has the start mark."""
    channels: bool = False
    """The marks are those of Harmony, see `harmony.py`: there is more than one piece of each."""

    @property
    def marks(self) -> tuple[str, ...]:
        """All marks, as they are spelled."""
        return harmony.MARKS if self.channels else (self.start, self.end)

    def opened_by(self, prompt: str) -> bool:
        """Whether `prompt`, or its end, leaves the model thinking: templates may open the block.

        Only the very end counts. What stands before it may be a user's words.
        """
        return prompt.rstrip().endswith(self.start)

    def left_open(self, message: str) -> bool:
        """Whether `message`, which the model shall continue, breaks off while it thinks."""
        return message.rfind(self.start) > message.rfind(self.end)


_THINK = ReasoningFormat("<think>", "</think>")
_ASSUMED = ReasoningFormat("<think>", "</think>", assumed=True)

REASONING_FORMATS: Mapping[str, ReasoningFormat] = MappingProxyType(
    {
        "deepseek_r1": _ASSUMED,
        "deepseek_v3": _THINK,
        "gemma4": ReasoningFormat("<|channel>thought", "<channel|>"),
        "glm45": _THINK,
        "granite": ReasoningFormat("Here is my thought process:", "Here is my response:"),
        "kimi_k2": _THINK,
        "longcat": ReasoningFormat("<longcat_think>", "</longcat_think>"),
        "minimax_m2": _ASSUMED,
        "mistral": ReasoningFormat("[THINK]", "[/THINK]"),
        "openai_gptoss": ReasoningFormat(harmony.CHANNEL, harmony.MESSAGE, channels=True),
        "qwen3": _THINK,
        "seed_oss": ReasoningFormat("<seed:think>", "</seed:think>", assumed=True),
    }
)
"""By the name that vLLM has for it, where it has one."""


class _State(Enum):
    BEFORE = auto()
    """Nothing but white space has come, or the beginning of the start mark."""
    INSIDE = auto()
    BEHIND = auto()
    """The end mark has come, and nothing but white space since."""
    OVER = auto()


class ReasoningParser:
    """Tells thinking from answer; one per sequence.

    `opened` says that the prompt has the start mark.
    """

    def __init__(self, reasoning_format: ReasoningFormat, *, opened: bool) -> None:
        self._format = reasoning_format
        self._held = ""
        self._opened = opened or reasoning_format.assumed
        """Thinking needs no start mark; one that comes all the same is left out."""
        self._mark = reasoning_format.end[0]
        self._state = _State.BEFORE
        self._begun = False
        """Some thinking has left."""
        self.tokens = 0
        """Tokens of thinking, the marks left out."""

    @property
    def held(self) -> int:
        """Characters that are held back."""
        return len(self._held)

    @property
    def thinking(self) -> bool:
        """Whether what comes next is thinking, as far as is known."""
        return self._state is _State.INSIDE or (self._opened and self._state is _State.BEFORE)

    @property
    def over(self) -> bool:
        """Whether all that comes is answer."""
        return self._state is _State.OVER

    def add(self, text: str) -> tuple[str, str]:
        """The thinking and the answer that are certain now that `text` has come."""
        if self._begun and self._state is _State.INSIDE and not self._held and self._is_plain(text):
            self.tokens += 1
            return text, ""
        before = self.thinking
        self._held += text
        parts = self._advance()
        self.tokens += before and self.thinking
        return parts

    def _is_plain(self, text: str) -> bool:
        """Whether `text` can have nothing to do with the end, as nearly every piece."""
        return self._mark not in text and not text[-1:].isspace()

    def finish(self) -> tuple[str, str]:
        """The same for what was held back, now that nothing more comes."""
        held, self._held = self._held, ""
        thinking = self.thinking
        behind, self._state = self._state is _State.BEHIND, _State.OVER
        if thinking:
            return held.rstrip() if self._begun else held.strip(), ""
        return "", "" if behind else held

    def _advance(self) -> tuple[str, str]:
        if self._state is _State.BEFORE:
            self._enter()
        thought = self._think() if self._state is _State.INSIDE else ""
        if self._state is _State.BEHIND:
            self._held = self._held.lstrip()
            if self._held:
                self._state = _State.OVER
        if self._state is not _State.OVER:
            return thought, ""
        said, self._held = self._held, ""
        return thought, said

    def _enter(self) -> None:
        """Find out how the answer begins."""
        start = self._format.start
        stripped = self._held.lstrip()
        if stripped.startswith(start):
            self._held = stripped[len(start) :]
            self._state = _State.INSIDE
        elif not start.startswith(stripped):
            self._state = _State.INSIDE if self._opened else _State.OVER

    def _think(self) -> str:
        end = self._format.end
        if not self._begun:
            self._held = self._held.lstrip()
        at = self._held.find(end)
        if at >= 0:
            thought, self._held = self._held[:at].rstrip(), self._held[at + len(end) :]
            self._state = _State.BEHIND
            return thought
        safe = len(self._held[: unfinished(self._held, end)].rstrip())
        thought, self._held = self._held[:safe], self._held[safe:]
        self._begun = self._begun or bool(thought)
        return thought
