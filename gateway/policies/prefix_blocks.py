"""A prompt's beginnings as numbers: equal where, and only where, everything up to there is equal.

Rules of this file:

- A block ends at fixed distances from the prompt's beginning, and its hash is chained to the one
  before. So two prompts share as many hashes as they share whole blocks at their beginning.
- Blocks grow with their depth, so that the beginning of a prompt is told to within 1/32 of its
  length with few of them. Behind `LIMIT` nothing is looked at.
- It is bytes that are hashed, as the client wrote them: no tokenizer, no parsing.

The hash is Python's own (SipHash, keyed anew in each process): the fastest there is here, and
nobody can make two prompts collide on purpose. It means nothing in another process.
Chained block hashes are how vLLM knows the blocks of its prefix cache.
"""

from __future__ import annotations

from collections.abc import Sequence

FIRST = 512
"""Bytes of the smallest blocks: what is shorter than that has none."""
PER_DOUBLING = 32
"""Blocks between the length of a prompt and twice that length."""
LIMIT = 1 << 20
"""Bytes: where the last block ends."""


def boundaries(
    first: int = FIRST, per_doubling: int = PER_DOUBLING, limit: int = LIMIT
) -> tuple[int, ...]:
    """Where blocks end, in bytes from the prompt's beginning."""
    ends: list[int] = []
    at, length = 0, first
    while at + length <= limit:
        at += length
        ends.append(at)
        if at >= 2 * per_doubling * length:
            length *= 2
    return tuple(ends)


BOUNDARIES = boundaries()


def block_hashes(prompt: bytes, root: int, ends: Sequence[int] = BOUNDARIES) -> list[int]:
    """One hash for each whole block of `prompt`; `root` tells apart what must share nothing."""
    hashes: list[int] = []
    size, start, chained = len(prompt), 0, root
    for end in ends:
        if end > size:
            break
        chained = hash((chained, prompt[start:end]))
        hashes.append(chained)
        start = end
    return hashes
