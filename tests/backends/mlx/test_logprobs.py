import math

import mlx.core as mx
import pytest

from backends.mlx.logprobs import TopLogprobs

PROBABILITIES = [[0.5, 0.3, 0.15, 0.05], [0.1, 0.2, 0.3, 0.4], [0.25, 0.25, 0.25, 0.25]]
LOGITS = mx.log(mx.array(PROBABILITIES)) + 3  # no softmax yet
TOKENS = mx.array([1, 3, 0], dtype=mx.uint32)


def test_they_are_of_the_whole_distribution_likeliest_first():
    first, second, _ = TopLogprobs({0: 2, 1: 4}, 3)(LOGITS, TOKENS)
    found = first.read()
    assert found.token == 1
    assert found.logprob == pytest.approx(math.log(0.3))
    assert [token for token, _ in found.top] == [0, 1]
    assert [token for token, _ in second.read().top] == [3, 2, 1, 0]
    assert second.read().top[0][1] == pytest.approx(math.log(0.4))


def test_rows_that_want_none_get_none():
    assert TopLogprobs({1: 1}, 3)(LOGITS, TOKENS)[::2] == [None, None]


def test_none_beside_the_token_itself():
    (found, *_) = TopLogprobs({0: 0}, 3)(LOGITS, TOKENS)
    assert found.read().top == ()
    assert found.read().logprob == pytest.approx(math.log(0.3))


def test_more_than_there_are_are_all_there_are():
    (found, *_) = TopLogprobs({0: 20}, 3)(LOGITS, TOKENS)
    assert [token for token, _ in found.read().top] == [0, 1, 2, 3]
