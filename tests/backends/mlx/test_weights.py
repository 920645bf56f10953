import logging

import mlx.core as mx

from backends.mlx import weights
from backends.mlx.weights import load_weights


def test_all_of_a_tree_is_counted_and_loaded():
    tree = {"a": mx.zeros((4, 4)), "b": [{"c": mx.ones((2,)) + 1}]}
    assert load_weights(tree, name="model") == 4 * 4 * 4 + 2 * 4
    assert load_weights({}, name="model") == 0


def test_large_ones_are_told_of_now_and_then(monkeypatch, caplog):
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(weights, "_AT_ONCE", 1024)
    monkeypatch.setattr(weights, "_EVERY", 0)
    load_weights([mx.zeros((256,)), mx.zeros((256,)), mx.zeros((10,))], name="big")
    assert [record.message for record in caplog.records] == [
        "loading big: 1.0 KiB of 2.0 KiB",
        "loading big: 2.0 KiB of 2.0 KiB",
    ]
