import mlx.core as mx

from backends.mlx import weights
from backends.mlx.weights import load_weights


def unheard(_done, _total):
    """Nobody listens."""


def test_all_of_a_tree_is_counted_and_loaded():
    tree = {"a": mx.zeros((4, 4)), "b": [{"c": mx.ones((2,)) + 1}]}
    assert load_weights(tree, unheard) == 4 * 4 * 4 + 2 * 4
    assert load_weights({}, unheard) == 0


def test_it_is_told_how_far_it_is(monkeypatch):
    monkeypatch.setattr(weights, "_AT_ONCE", 1024)
    told = []
    arrays = [mx.zeros((256,)), mx.zeros((256,)), mx.zeros((10,))]
    load_weights(arrays, lambda done, total: told.append((done, total)))
    assert told == [(1024, 2088), (2048, 2088)]
