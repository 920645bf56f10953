"""Have an engine go on from a text, and make what it says then look like the whole answer.

A request gets what has been said as its last message, or at the end of its prompt. Of the answer,
`Continued` makes what an engine would have sent that had repeated it all: the text first, and the
usage of the whole. So what follows, a translation among it, treats it like any other try.

White space at the end of the text is not given to the engine. Many chat templates strip it, and
models put a space in front of a word rather than behind one. What the engine says of it anew is
left out.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from backends.base import Endpoint
from backends.malformed import MALFORMED
from backends.sse import EventCutter, events
from gateway.wire.resume.transcript import as_object, as_objects, decode, encode

PREFILLS: Mapping[str, Mapping[str, bool]] = {
    provider: {"continue_final_message": True, "add_generation_prompt": False}
    for provider in ("llama_server", "llama_cpp", "mlx", "vllm")
}
"""By kind of engine, what has it go on from a chat's last message. With less, llama-server would
repeat the message first. Of servers of which nothing is known, nobody knows that they can."""

_LIMITS = ("max_tokens", "max_completion_tokens", "max_output_tokens", "n_predict")
_LEAST = "min_tokens"
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_turns = msgspec.json.Decoder(list[msgspec.Raw]).decode


class Said(msgspec.Struct, frozen=True):
    """What has been said of an answer, before it broke off."""

    text: str
    tokens: int


def continued_body(
    endpoint: Endpoint, body: bytes, said: Said, prefill: Mapping[str, bool]
) -> bytes | None:
    """`body`, a chat or a completion, for an engine that goes on after `said`.

    None where that cannot be asked: the limit is reached, or the prompt is no text, or the chat
    ends with words of the assistant's own already.
    """
    try:
        fields = _decode_fields(body)
        limits = {name: decode(fields[name]) for name in _LIMITS if name in fields}
        least = decode(fields[_LEAST]) if _LEAST in fields else None
        given = _prompt(fields, said) if endpoint is Endpoint.COMPLETIONS else _chat(fields, said)
    except (*MALFORMED, KeyError):
        return None
    if given is None:
        return None
    for name, limit in limits.items():
        if isinstance(limit, int) and limit > 0:
            if limit <= said.tokens:
                return None
            fields[name] = msgspec.Raw(encode(limit - said.tokens))
    if isinstance(least, int) and least > 0:
        fields[_LEAST] = msgspec.Raw(encode(max(least - said.tokens, 0)))
    if endpoint is not Endpoint.COMPLETIONS:
        fields |= {name: msgspec.Raw(encode(value)) for name, value in prefill.items()}
    return encode({**fields, **given})


def _prompt(fields: dict[str, msgspec.Raw], said: Said) -> dict[str, Any] | None:
    prompt = decode(fields["prompt"])
    return {"prompt": prompt + said.text.rstrip()} if isinstance(prompt, str) else None


def _chat(fields: dict[str, msgspec.Raw], said: Said) -> dict[str, Any] | None:
    turns = _decode_turns(fields["messages"])
    if as_object(decode(turns[-1])).get("role") == "assistant":
        return None
    last = {"role": "assistant", "content": said.text.rstrip()}
    return {"messages": [*turns, msgspec.Raw(encode(last))]}


class Continued:
    """Makes a whole answer out of a stream, of a chat or a completion, that goes on after `said`.

    Events are fed as they come, in any pieces. Raises `EventTooLargeError`.
    """

    def __init__(self, said: Said) -> None:
        self._said = said
        self._cutter = EventCutter()
        self._begun = False
        self._space = said.text[len(said.text.rstrip()) :]
        """What of the white space at the seam the engine may still say anew."""
        self._begins_at: int | None = None
        """Where in the text the offsets that it tells begin; None until it tells one."""

    def feed(self, data: bytes) -> bytes:
        """The events that are complete with `data`."""
        block = self._cutter.feed(data)
        return b"".join(self._events(name, said) for name, said, _ in events(block))

    def end(self) -> bytes:
        """What has come of an event that never ended."""
        return self._cutter.rest

    def _events(self, name: bytes, data: bytes) -> bytes:
        if name or data == b"[DONE]":
            return b"%sdata: %s\n\n" % (b"event: %s\n" % name if name else b"", data)
        try:
            chunk = as_object(decode(data))
        except MALFORMED:
            return b"data: %s\n\n" % data  # for the watch to find
        if isinstance(usage := chunk.get("usage"), dict):
            chunk["usage"] = self._of_all(usage)
        choices = as_objects(chunk.get("choices"))
        ends = any(choice.get("finish_reason") for choice in choices)
        says = [self._put(choice) for choice in choices]
        out = b"data: %s\n\n" % encode(chunk)
        if self._begun or not (ends or any(says)):
            return out
        self._begun = True
        return self._echo(chunk, choices[0]) + out

    def _put(self, choice: dict[str, Any]) -> bool:
        """Leave white space out that was there; whether the choice has anything to say."""
        part = choice.get("delta") if isinstance(choice.get("delta"), dict) else choice
        assert part is not None
        self._move(as_object(choice.get("logprobs")))
        says = False
        for field in ("content", "text"):
            text = part.get(field)
            if not isinstance(text, str) or not text:
                continue
            says = True
            common = _alike(self._space, text)
            part[field] = text[common:]
            if common == len(text) and choice.get("logprobs"):
                choice["logprobs"] = None  # they are of what was there
            self._space = self._space[common:] if common == len(text) else ""
        return says or bool(part.get("tool_calls") or part.get("reasoning_content"))

    def _move(self, logprobs: dict[str, Any]) -> None:
        """Make its offsets, those of `/v1/completions`, count from the beginning of the answer.

        Some engines count from that of the prompt, of which what was said is a part here.
        """
        offsets = logprobs.get("text_offset")
        if not isinstance(offsets, list) or not all(isinstance(at, int) for at in offsets):
            return
        if self._begins_at is None and offsets:
            self._begins_at = 0 if offsets[0] else len(self._said.text.rstrip())
        logprobs["text_offset"] = [at + (self._begins_at or 0) for at in offsets]

    def _echo(self, chunk: dict[str, Any], choice: dict[str, Any]) -> bytes:
        """The event with all that had been said; the first that comes with text does likewise."""
        said: dict[str, Any] = {"index": 0, "finish_reason": None}
        said |= (
            {"delta": {"content": self._said.text}}
            if "delta" in choice
            else {"text": self._said.text}
        )
        head = {name: value for name, value in chunk.items() if name not in ("usage", "timings")}
        return b"data: %s\n\n" % encode({**head, "choices": [said]})

    def _of_all(self, usage: dict[str, Any]) -> dict[str, Any]:
        """`usage` as that of an answer that nobody has disturbed."""
        tokens = self._said.tokens
        prompt, completion = usage.get("prompt_tokens"), usage.get("completion_tokens")
        if not isinstance(prompt, int) or not isinstance(completion, int):
            return usage
        prompt = max(prompt - tokens, 0)
        whole = {**usage, "prompt_tokens": prompt, "completion_tokens": completion + tokens}
        details = as_object(usage.get("prompt_tokens_details"))
        if isinstance(cached := details.get("cached_tokens"), int):
            whole["prompt_tokens_details"] = {**details, "cached_tokens": min(cached, prompt)}
        return whole


def _alike(one: str, other: str) -> int:
    """How many characters both begin with."""
    for at, (mine, theirs) in enumerate(zip(one, other, strict=False)):
        if mine != theirs:
            return at
    return min(len(one), len(other))
