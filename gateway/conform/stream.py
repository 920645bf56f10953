"""Whether a stream of chat or text completions is well-formed. Pure: bytes in, complaints out.

Clients take much that is not; but each of these has broken one of them. Comments are no events
and may stand anywhere between them.
"""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import msgspec

from backends.malformed import MALFORMED
from backends.sse import events

_DONE = b"[DONE]"


def complaints(raw: bytes, *, choices: int = 1, usage: bool = True) -> list[str]:
    """What is wrong with `raw`, a whole stream of `choices` answers; empty where nothing is.

    `usage`: it was asked for (`stream_options.include_usage`).
    """
    look = _Look(choices)
    if not raw.endswith(b"\n\n"):
        look.complain("the last event does not end with a blank line")
    for name, data, _ in events(raw):
        look.at(name, data)
    look.end(usage=usage)
    return look.complaints


class _Look:
    def __init__(self, choices: int) -> None:
        self.complaints: list[str] = []
        self._choices = choices
        self._ids: set[Any] = set()
        self._finished: dict[int, int] = defaultdict(int)
        self._seen: set[int] = set()
        self._usages = 0
        self._done = False

    def complain(self, what: str) -> None:
        if what not in self.complaints:
            self.complaints.append(what)

    def at(self, name: bytes, data: bytes) -> None:
        if self._done:
            return self.complain("something follows [DONE]")
        if data == _DONE:
            self._done = True
            return None
        if name:
            self.complain(f"an event is called {name.decode('latin-1')!r}: clients expect none")
        try:
            chunk = msgspec.json.decode(data)
        except MALFORMED as error:
            return self.complain(f"an event is not JSON: {error}")
        if not isinstance(chunk, dict) or not isinstance(chunk.get("choices"), list):
            return self.complain(f"an event has no `choices`: {data[:80].decode('latin-1')}")
        return self._chunk(chunk)

    def _chunk(self, chunk: dict[str, Any]) -> None:
        self._ids.add(chunk.get("id"))
        if self._usages:
            self.complain("an event follows the one with the usage")
        if chunk.get("usage") and not chunk["choices"]:
            self._usages += 1
        elif not chunk["choices"]:
            self.complain("an event has neither choices nor the usage")
        for choice in chunk["choices"]:
            self._choice(choice)

    def _choice(self, choice: dict[str, Any]) -> None:
        index = choice.get("index")
        if not isinstance(index, int) or not 0 <= index < self._choices:
            return self.complain(f"a choice has the index {index!r}")
        if self._finished[index]:
            self.complain(f"choice {index} goes on after its finish reason")
        delta = choice.get("delta")
        role = delta.get("role") if isinstance(delta, dict) else "assistant"
        if index not in self._seen and role != "assistant":
            self.complain(f"choice {index} does not begin with its role")
        self._seen.add(index)
        if choice.get("finish_reason") is not None:
            self._finished[index] += 1
        return None

    def end(self, *, usage: bool) -> None:
        if not self._done:
            self.complain("there is no [DONE]")
        if len(self._ids) > 1:
            self.complain("the id changes on the way")
        if len(self._seen) < self._choices:
            self.complain(f"{len(self._seen)} of {self._choices} choices came")
        for index in sorted(self._seen):
            if not self._finished[index]:
                self.complain(f"choice {index} has no finish reason")
        if usage and not self._usages:
            self.complain("the usage was asked for and did not come, with `choices: []`")
        if not usage and self._usages:
            self.complain("the usage came unasked")
