"""Constraints as llguidance's grammars, and what they allow next. Imports llguidance.

Rules of this file:

- `Grammars.compile` may be called in any thread. What it gives is copied for each sequence, and a
  copy belongs to the engine's thread.
- llguidance computes with fuel, not with time: what it cannot decide within its limits is an error
  of that grammar. So no schema can hold up a batch for more than some 20 ms a token.
- A grammar that fails while it is used is its own sequence's fault; the others never notice.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from llguidance import LLMatcher, LLParserLimits, LLTokenizer

from backends.inprocess.constraint import Constraint, Value, blamed, uncompilable
from backends.inprocess.schema_limits import too_costly

OnFault = Callable[[Exception], None]

_WHITE_SPACE = r"[ ]?|\n[ ]{0,40}"
"""Between the parts of a JSON value: a space, or a new line and what indents it. Without a bound a
small model may write white space until its limit; llama.cpp's grammars bound it in the same way."""
_LEXER_STATES = 25_000
"""Of one grammar; a state takes 1 to 2 kB."""


class GrammarFault(Exception):
    """A grammar could not tell what may come next."""


class Grammar:
    """What a constraint was compiled to; immutable, shared by sequences."""

    def __init__(self, matcher: LLMatcher) -> None:
        self._matcher = matcher

    def matcher(self, on_fault: OnFault) -> Matcher:
        """For one sequence; `on_fault` hears why it can no longer be held."""
        return Matcher(self._matcher.deep_copy(), on_fault)


class Matcher:
    """Follows one sequence, and tells what may come next."""

    __slots__ = ("_failed", "_matcher", "_on_fault")

    def __init__(self, matcher: LLMatcher, on_fault: OnFault) -> None:
        self._matcher = matcher
        self._on_fault = on_fault
        self._failed = False

    def consume(self, token: int) -> None:
        """Move over the token that was chosen."""
        if not (self._failed or self._matcher.is_stopped()):
            self._matcher.consume_token(token)

    def allow(self, address: int, size: int) -> bool:
        """Write a bit for each token to memory, `size` bytes, a multiple of four; the first token's
        is the lowest. False, where it cannot be told: what then stands there means nothing.
        """
        if self._failed:
            return False
        self._matcher.unsafe_compute_mask_ptr(address, size)
        if self._matcher.is_error():
            self._failed = True
            self._on_fault(GrammarFault(f"the grammar of the answer: {said(self._matcher)}"))
        return not self._failed


class Grammars:
    """Compiles constraints for one tokenizer."""

    def __init__(self, tokenizer: LLTokenizer) -> None:
        self._tokenizer = tokenizer
        self._limits = LLParserLimits(max_lexer_states=_LEXER_STATES, verbose_errors=False)

    def piece(self, token: int) -> bytes:
        """What a token stands for."""
        return self._tokenizer.decode_bytes([token])

    def compile(self, constraint: Constraint) -> Grammar:
        """The grammar of `constraint`; raises `RequestRefused` that names the schema."""
        values = [value for value in (constraint.answer, *constraint.calls) if value is not None]
        for value in values:
            if (reason := too_costly(json.loads(value.schema))) is not None:
                raise uncompilable(value.param, reason)
        matcher = self._matcher(_grammar(constraint, self._literal))
        if not matcher.is_error():
            # The first mask takes longest, and shows what cannot be begun at all.
            matcher.compute_bitmask()
        if not matcher.is_error():
            return Grammar(matcher)
        for value in values:  # which one is to blame?
            alone = self._matcher(_grammar(Constraint(answer=value), self._literal))
            if not alone.is_error():
                alone.compute_bitmask()
            if alone.is_error():
                raise uncompilable(value.param, said(alone))
        raise uncompilable(blamed(constraint), said(matcher))

    def _matcher(self, grammar: str) -> LLMatcher:
        return LLMatcher(self._tokenizer, grammar, log_level=0, limits=self._limits)

    def _literal(self, text: str) -> str:
        """Text in Lark's syntax; special tokens in it by their numbers."""
        parts: list[str] = []
        plain = b""
        for token in self._tokenizer.tokenize_str(text, parse_special=True):
            if self._tokenizer.is_special_token(token):
                parts += [_quoted(plain), f"<[{token}]>"]
                plain = b""
            else:
                plain += self._tokenizer.decode_bytes([token])
        parts.append(_quoted(plain))
        return " ".join(part for part in parts if part)


def said(matcher: LLMatcher) -> str:
    """Why a matcher failed, without the state that llguidance appends."""
    error = str(matcher.get_error()).replace("<non-verbose/>", "").strip()
    return "no JSON value satisfies it" if error.startswith("NoExtension") else error


def _quoted(text: bytes) -> str:
    return json.dumps(text.decode()) if text else ""


def _grammar(constraint: Constraint, literal: Callable[[str], str]) -> str:
    """In llguidance's own form: a Lark grammar, and each schema as a grammar of its own.

    So a schema's references stay within it, and no text of a client's is read as Lark.
    """
    schemas: list[dict[str, Any]] = []

    def value(value: Value) -> str:
        name = f"schema_{len(schemas)}"
        schemas.append({"name": name, "json_schema": _schema(value)})
        return f"{literal(value.begin)} @{name} {literal(value.end)}"

    ways: list[str] = []
    rules: list[str] = [r"TEXT: /(.|\n)*/"]
    if constraint.answer is not None:
        ways.append(value(constraint.answer))
    if constraint.calls:
        rules += [f"call_{at}: {value(call)}" for at, call in enumerate(constraint.calls)]
        calls = " | ".join(f"call_{at}" for at in range(len(constraint.calls)))
        rules.append(f"call: {calls}")
        mark = literal(constraint.mark)
        if constraint.text:
            rules.append(_until("opening", mark))
            ways.append("(opening call)* TEXT" if constraint.several else "TEXT | opening call")
        else:
            more = f"({literal(constraint.separator)} {mark} call)*" if constraint.several else ""
            ways.append(f"{mark} call {more}")
    elif constraint.text:
        mark = literal(constraint.mark)
        # A special token is no text: free text cannot hold one.
        if not mark.startswith("<["):
            rules += [f"CALLING: TEXT {mark} TEXT", "PLAIN: TEXT & ~CALLING"]
        ways.append("TEXT" if mark.startswith("<[") else "PLAIN")
    rules.append("answer: " + " | ".join(f"({way})" for way in ways))
    start = "answer"
    if (thinking := constraint.thinking) is not None:
        rules += [_until("thought", literal(thinking.end)), r"SPACE: /[ \n]{0,4}/"]
        opened = (
            "thought SPACE" if thinking.opened else f"({literal(thinking.start)} thought SPACE)?"
        )
        start = f"{opened} answer"
    lark = "\n".join([f"start: {start}", *rules])
    return json.dumps({"grammars": [{"name": "answer", "lark_grammar": lark}, *schemas]})


def _until(rule: str, mark: str) -> str:
    """A rule for text up to a mark: a special token, or the first place where the mark stands."""
    return f"{rule}: TEXT {mark}" if mark.startswith("<[") else f"{rule}[lazy]: TEXT {mark}"


def _schema(value: Value) -> Any:
    schema = json.loads(value.schema)
    # A grammar cannot tell that exactly one of several fits; that at least one does, it can.
    options = {
        "whitespace_pattern": _WHITE_SPACE,
        "lenient": value.lenient,
        "coerce_one_of": True,
    }
    return {**schema, "x-guidance": options} if isinstance(schema, dict) else schema
