from __future__ import annotations

from itertools import pairwise
from random import Random

import pytest

from gateway.policies.prefix_blocks import BOUNDARIES, FIRST, LIMIT, block_hashes, boundaries

ENDS = boundaries(first=4, per_doubling=8, limit=1024)


def shared(one, other):
    return sum(1 for a, b in zip(one, other, strict=False) if a == b)


@pytest.mark.parametrize("seed", range(50))
def test_two_prompts_share_as_many_blocks_as_they_begin_with_alike(seed):
    rng = Random(seed)
    start = rng.randbytes(rng.randrange(300))
    first, second = (start + rng.randbytes(rng.randrange(300)) for _ in range(2))
    alike = next(
        (at for at, (a, b) in enumerate(zip(first, second, strict=False)) if a != b),
        min(len(first), len(second)),
    )
    expected = sum(1 for end in ENDS if end <= alike)
    assert shared(block_hashes(first, 0, ENDS), block_hashes(second, 0, ENDS)) == expected


def test_a_block_is_another_one_behind_another_beginning():
    one, other = block_hashes(b"a" * 64, 0, ENDS), block_hashes(b"b" * 4 + b"a" * 60, 0, ENDS)
    assert not set(one) & set(other)


def test_roots_share_nothing():
    assert not set(block_hashes(b"a" * 64, 1, ENDS)) & set(block_hashes(b"a" * 64, 2, ENDS))


def test_a_length_is_told_to_a_32nd_of_it_or_a_block_and_the_blocks_are_few():
    assert all(
        later - earlier <= max(FIRST, earlier / 32) for earlier, later in pairwise(BOUNDARIES)
    )
    assert BOUNDARIES[0] == FIRST
    assert BOUNDARIES[-1] == LIMIT
    assert len(BOUNDARIES) < 256


def test_what_is_too_short_has_no_blocks():
    assert block_hashes(b"a" * (FIRST - 1), 0) == []
    assert len(block_hashes(b"a" * (LIMIT * 2), 0)) == len(BOUNDARIES)
