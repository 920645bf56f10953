"""The documents, cut into their fenced blocks."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[2]
DOCUMENTS = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    "docs/architecture.md",
    "docs/clients.md",
    "docs/dependencies.md",
    "docs/engines.md",
    "docs/operations.md",
]

_FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A fenced block: where it stands, its language, and what it says."""

    document: str
    line: int
    language: str
    text: str
    output: str | None
    """The `text` block right after it, if there is one."""

    @property
    def name(self) -> str:
        return f"{self.document}:{self.line}"


def read(document: str) -> str:
    return (ROOT / document).read_text("utf-8")


def blocks(*languages: str) -> list[Block]:
    """The blocks of all documents in one of `languages`."""
    found = []
    for document in DOCUMENTS:
        text = read(document)
        for fence in _FENCE.finditer(text):
            if fence[1] in languages:
                after = _FENCE.match(text, fence.end() + 1)
                output = after[2] if after is not None and after[1] == "text" else None
                line = text.count("\n", 0, fence.start()) + 1
                found.append(Block(document, line, fence[1], fence[2], output))
    return found
