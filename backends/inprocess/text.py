"""What one sequence in the batch has said so far, as text. Pure: tokens in, text out.

Rules of this file:

- Text leaves in whole characters: bytes of an unfinished UTF-8 sequence are held back, and
  dropped if the sequence ends there, as llama-server and vLLM do.
- A stop string is looked for in the text, wherever token borders fall; text that may be the
  beginning of one is held back until that is decided. The stop string itself never leaves.
- Thinking goes first. Stop strings and tool calls are looked for in the answer only.
- Once finished, a sequence takes no more tokens.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import StrEnum

import msgspec

from backends.inprocess.harmony import HarmonyParser
from backends.inprocess.logprobs import LogprobLine, TokenLogprobs
from backends.inprocess.marks import unfinished
from backends.inprocess.reasoning import ReasoningParser
from backends.inprocess.tool_calls import ToolCall, ToolCallParser

Decode = Callable[[Sequence[int]], str]
"""Token ids to text; special tokens left out, bytes that are no UTF-8 as U+FFFD."""

_REPLACEMENT = "\ufffd"
_PATIENCE = 16
"""Tokens to wait for the end of a character. Four bytes make one, but tokens may straddle
characters, and some decoders spoil a whole run of bytes while its last character is open."""


class Finish(StrEnum):
    """OpenAI's `finish_reason`."""

    STOP = "stop"
    LENGTH = "length"
    TOOL_CALLS = "tool_calls"


class Delta(msgspec.Struct, frozen=True):
    """What one sequence adds to its answer."""

    index: int
    """Which choice of the answer."""
    text: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    finish: Finish | None = None
    tokens: int = 0
    """Tokens generated so far, the one that ended the sequence included."""
    reasoning: str = ""
    """Thinking; it comes before `text`."""
    reasoning_tokens: int | None = None
    """Tokens of thinking so far; None where thinking is not looked for."""
    logprobs: tuple[TokenLogprobs, ...] = ()
    """Of the tokens that it is made of, marks included, where they were asked for."""
    stop_reason: str | None = None
    """The stop string that ended it, with `finish`, where it was one."""

    @property
    def says_something(self) -> bool:
        """Whether there is anything in it for a client that reads a stream."""
        return bool(self.text or self.tool_calls or self.reasoning or self.finish)


class Detokenizer:
    """Token ids to text, increment by increment.

    Decodes a sliding window of two increments, so that what depends on the neighbour (the
    space before a word, a character split over tokens) comes out as when all is decoded at
    once. The method is the one of text-generation-inference's `decode_token`.
    """

    def __init__(self, decode: Decode) -> None:
        self._decode = decode
        self._window: list[int] = []
        self._given = 0
        """How many tokens of the window have left as text."""
        self._given_text = ""

    def add(self, token: int) -> str:
        """The text that `token` completes; empty while a character is unfinished."""
        self._window.append(token)
        text = self._decode(self._window)
        held = len(self._window) - self._given
        if text.endswith(_REPLACEMENT) and held < _PATIENCE:
            return ""
        new = text[len(self._given_text) :]
        del self._window[: self._given]
        self._given = len(self._window)
        self._given_text = self._decode(self._window)
        return new

    def rest(self) -> str:
        """The whole characters that were held back, now that nothing more comes."""
        if len(self._window) == self._given:
            return ""
        return self._decode(self._window)[len(self._given_text) :].rstrip(_REPLACEMENT)


class StopStrings:
    """Finds the first stop string in a stream of text pieces."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None
        """The stop string that was found."""

    @property
    def held(self) -> int:
        """Characters that are held back."""
        return len(self._held)

    def add(self, text: str) -> tuple[str, bool]:
        """Text that is safe to hand on, and whether a stop string was found right after it."""
        if not self._stops:
            return text, False
        text = self._held + text
        found = [(at, stop) for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self._held = ""
            at, self.found = min(found)
            return text[:at], True
        safe = min(unfinished(text, stop) for stop in self._stops)
        self._held = text[safe:]
        return text[:safe], False

    def rest(self) -> str:
        """What was held back, now that nothing more comes."""
        held, self._held = self._held, ""
        return held


class SequenceText:
    """The answer of one sequence: detokenized, thinking and tool calls told apart, cut at stops.

    `hidden` are special tokens that are no text, but inside a tool call. With
    `show_reasoning` false, thinking is counted and not told.
    """

    def __init__(
        self,
        index: int,
        decode: Decode,
        *,
        stops: Sequence[str] = (),
        tool_calls: ToolCallParser | None = None,
        reasoning: ReasoningParser | HarmonyParser | None = None,
        show_reasoning: bool = True,
        hidden: frozenset[int] = frozenset(),
    ) -> None:
        self.index = index
        self.tokens = 0
        self._detokenizer = Detokenizer(decode)
        self._stops = StopStrings(stops)
        self._tool_calls = tool_calls
        self._reasoning = reasoning
        """Asked until its part is over."""
        self._show_reasoning = show_reasoning
        self._reasoning_tokens = None if reasoning is None else 0
        self._hidden = hidden
        self._logprobs: LogprobLine | None = None
        """There from when the first log-probabilities come."""

    def add(
        self,
        token: int,
        *,
        ended: bool = False,
        cut: bool = False,
        logprobs: TokenLogprobs | None = None,
    ) -> Delta:
        """Take the next token.

        `ended` says that it is an end-of-sequence token, which is no text; `cut`, that the
        limit on tokens is reached with it.
        """
        self.tokens += 1
        hidden = ended or (token in self._hidden and not self._calling)
        piece = "" if hidden else self._detokenizer.add(token)
        if ended or cut:
            piece += self._detokenizer.rest()
        if logprobs is not None:
            self._note(logprobs, piece, ended=ended)
        thought = ""
        if self._reasoning is not None:
            thought, piece = self._think(self._reasoning, piece, last=ended or cut)
        held = self._stops.held
        text, stopped = self._stops.add(piece)
        if stopped:
            return self._close(thought, text, Finish.STOP, cut_off=held + len(piece) - len(text))
        if ended:
            return self._close(thought, text + self._stops.rest(), Finish.STOP)
        if cut:
            return self._close(thought, text + self._stops.rest(), Finish.LENGTH)
        calls: tuple[ToolCall, ...] = ()
        if self._tool_calls is not None:
            text, calls = self._tool_calls.add(text)
        left: tuple[TokenLogprobs, ...] = ()
        if self._logprobs is not None and (text or calls or thought):
            left = self._logprobs.take(self._held)
        return Delta(
            self.index, text, calls, None, self.tokens, thought, self._reasoning_tokens, left
        )

    @property
    def _held(self) -> int:
        """Characters that have been decoded and have not left."""
        parts = (self._reasoning, self._stops, self._tool_calls)
        return sum(part.held for part in parts if part is not None)

    def _note(self, logprobs: TokenLogprobs, piece: str, *, ended: bool) -> None:
        if self._logprobs is None:
            self._logprobs = LogprobLine()
        if not ended:
            self._logprobs.add(logprobs, piece)
        elif piece:
            self._logprobs.decoded(piece)

    @property
    def _calling(self) -> bool:
        """Whether a tool call is being written: there special tokens mean something."""
        return self._tool_calls is not None and self._tool_calls.inside

    def _think(
        self, parser: ReasoningParser | HarmonyParser, piece: str, *, last: bool
    ) -> tuple[str, str]:
        """Thinking and answer in what has come."""
        thought, said = parser.add(piece)
        if last:
            rest, more = parser.finish()
            thought, said = thought + rest, said + more
        self._reasoning_tokens = parser.tokens
        if parser.over:
            self._reasoning = None
        return thought if self._show_reasoning else "", said

    def _close(self, thought: str, text: str, finish: Finish, *, cut_off: int = 0) -> Delta:
        """The last delta; the last `cut_off` characters decoded never leave."""
        calls: tuple[ToolCall, ...] = ()
        if self._tool_calls is not None:
            text, calls = self._tool_calls.add(text)
            more, last = self._tool_calls.finish()
            text, calls = text + more, calls + last
            if self._tool_calls.count and finish is Finish.STOP:
                finish = Finish.TOOL_CALLS
        left = self._logprobs.close(cut_off) if self._logprobs is not None else ()
        return Delta(
            self.index,
            text,
            calls,
            finish,
            self.tokens,
            thought,
            self._reasoning_tokens,
            left,
            self._stops.found,
        )
