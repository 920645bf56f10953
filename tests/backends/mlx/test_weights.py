import mlx.core as mx

from backends.mlx import weights
from backends.mlx.weights import load_weights


def test_a_tree_without_arrays_is_loaded_too():
    load_weights({}, lambda _done, _total: None)


def test_it_is_told_how_far_it_is(monkeypatch):
    monkeypatch.setattr(weights, "_AT_ONCE", 1024)
    told = []
    arrays = [mx.zeros((256,)), mx.zeros((256,)), mx.zeros((10,))]
    load_weights(arrays, lambda done, total: told.append((done, total)))
    assert told == [(1024, 2088), (2048, 2088)]
