"""Marks in text that comes in pieces: what may be the beginning of one must wait. Pure."""

from __future__ import annotations


def unfinished(text: str, mark: str) -> int:
    """Where in `text` a `mark` may begin that is not all there yet; the end of `text` if nowhere.

    A mark must not be empty.
    """
    at = text.find(mark[0], max(0, len(text) - len(mark) + 1))
    while at >= 0 and not mark.startswith(text[at:]):
        at = text.find(mark[0], at + 1)
    return at if at >= 0 else len(text)
