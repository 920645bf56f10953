"""The two kinds of request: for an answer in one piece, and for a stream."""

from __future__ import annotations

import pytest

from tests.support.upstream import CHAT, STORY, Script, stream

BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])


def good(streamed: bool) -> Script:
    """What a sound engine answers."""
    return stream(*STORY) if streamed else CHAT
