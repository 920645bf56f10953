from __future__ import annotations

import pytest


class Pieces:
    """A stream of these pieces."""

    def __init__(self, *pieces: bytes) -> None:
        self._pieces = iter(pieces)
        self.closed = False

    def __aiter__(self):
        return self

    async def __anext__(self) -> bytes:
        for piece in self._pieces:
            return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        self.closed = True


@pytest.fixture(name="stream_of")
def _stream_of():
    return Pieces
