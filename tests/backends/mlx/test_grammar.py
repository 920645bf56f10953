import ctypes

import mlx.core as mx

from backends.mlx.grammar import GrammarMask


class Fixed:
    """Allows what it is told, token by token."""

    def __init__(self, *allowed):
        self.allowed = list(allowed)
        self.consumed = []

    def consume(self, token):
        self.consumed.append(token)

    def allow(self, address, size):
        allowed = self.allowed.pop(0)
        if allowed is None:
            return False
        bits = sum(1 << token for token in allowed)
        ctypes.memmove(address, bits.to_bytes(size, "little"), size)
        return True


def told(mask, inputs):
    allowed = mask(inputs)
    assert allowed.dtype == mx.bool_
    return [[at for at, yes in enumerate(row) if yes] for row in allowed.tolist()]


def test_rows_without_a_grammar_may_write_anything():
    matcher = Fixed({0, 34}, {5})
    mask = GrammarMask({1: matcher}, {1}, 2, 35)
    assert told(mask, [9, 9]) == [list(range(35)), [0, 34]]
    assert told(mask, [9, 34]) == [list(range(35)), [5]]


def test_what_a_fresh_row_follows_is_its_prompt():
    fresh, old = Fixed({1}, {1}), Fixed({2}, {2})
    mask = GrammarMask({0: fresh, 1: old}, {0}, 2, 8)
    told(mask, [3, 4])
    told(mask, [5, 6])
    assert (fresh.consumed, old.consumed) == ([5], [4, 6])


def test_a_row_whose_grammar_failed_may_write_anything():
    mask = GrammarMask({0: Fixed({1}, None)}, {0}, 1, 4)
    assert told(mask, [0]) == [[1]]
    assert told(mask, [1]) == [[0, 1, 2, 3]]
