from types import SimpleNamespace
from typing import Any

import mlx.core as mx
import numpy as np
import pytest
from mlx import nn

from backends.mlx.cpu_layout import turn_weights
from backends.mlx.model import computes_on_cpu

pytestmark = pytest.mark.skipif(not computes_on_cpu(), reason="MLX computes on the GPU here")


class Tiny(nn.Module):
    def __init__(self, *, tied: bool = False) -> None:
        super().__init__()
        self.args = SimpleNamespace(tie_word_embeddings=tied)
        self.embedding = nn.Embedding(64, 32)
        self.layers = [nn.Linear(32, 48), nn.Linear(48, 32, bias=False)]

    def __call__(self, tokens: mx.array) -> mx.array:
        x = self.embedding(tokens)
        for layer in self.layers:
            x = layer(x)
        return self.embedding.as_linear(x)


def lies_by_columns(weight: Any) -> bool:
    first, second = memoryview(weight).strides
    return first < second


SIZES = [(32, 48), (300, 64)]
"""Inputs and outputs of a layer."""
UNIT = float(np.finfo(np.float32).eps) / 2
"""What rounding changes at most, of a number that is 1."""


def layer_and_inputs(rows, sizes, seed):
    mx.random.seed(seed)
    layer = nn.Linear(*sizes, bias=False)
    layer.weight = mx.random.normal(layer.weight.shape)
    return layer, mx.random.normal((1, rows, sizes[0]))


def both_ways(layer, inputs):
    before = np.array(layer(inputs))
    turn_weights(layer)
    assert lies_by_columns(layer.weight)
    return before, np.array(layer(inputs))


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_the_sums_are_the_same_in_the_same_order(rows, sizes):
    """Of numbers with 8 bits the products are exact, so that a fused multiply-add rounds as the two
    do that it is made of: whatever was compiled how, only another order could give another sum.
    """
    for seed in range(20):
        layer, inputs = layer_and_inputs(rows, sizes, seed)
        layer.weight = layer.weight.astype(mx.bfloat16).astype(mx.float32)
        inputs = inputs.astype(mx.bfloat16).astype(mx.float32)
        before, after = both_ways(layer, inputs)
        assert np.array_equal(before, after)


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_of_any_numbers_they_change_by_rounding_at_most(rows, sizes):
    """The bound is that of a sum of products in any order, fused or not: Higham, Accuracy and
    Stability of Numerical Algorithms, 3.1; twice, because both are rounded.
    """
    layer, inputs = layer_and_inputs(rows, sizes, seed=1)
    weight, given = np.array(layer.weight), np.array(inputs)
    before, after = both_ways(layer, inputs)
    bound = 2 * sizes[0] * UNIT * (np.abs(given) @ np.abs(weight.T))
    assert (np.abs(after - before) <= bound).all()


@pytest.mark.parametrize("tied", [True, False])
def test_a_whole_model_says_the_same(tied):
    model = Tiny(tied=tied)
    tokens = mx.array([[3, 1, 4, 1, 5], [9, 2, 6, 5, 3]])
    before = np.array(model(tokens))
    turn_weights(model)
    assert np.array(model(tokens)) == pytest.approx(before, rel=1e-4, abs=1e-6)


def test_values_and_shapes_stay_and_the_layout_does_not():
    model = Tiny()
    weight = np.array(model.layers[1].weight)
    assert not lies_by_columns(model.layers[1].weight)
    turn_weights(model)
    assert lies_by_columns(model.layers[1].weight)
    assert np.array_equal(np.array(model.layers[1].weight), weight)


def test_a_layer_with_a_bias_is_left_alone():
    model = Tiny()
    turn_weights(model)
    assert not lies_by_columns(model.layers[0].weight)


@pytest.mark.parametrize("tied", [True, False])
def test_an_embedding_is_turned_where_it_is_the_output_layer(tied):
    model = Tiny(tied=tied)
    turn_weights(model)
    assert lies_by_columns(model.embedding.weight) is tied


def test_other_numbers_than_float32_are_left_alone():
    model = Tiny()
    model.set_dtype(mx.bfloat16)
    packed = nn.QuantizedLinear(64, 32)
    model.layers.append(packed)
    before = [layer.weight for layer in model.layers]
    turn_weights(model)
    assert all(layer.weight is weight for layer, weight in zip(model.layers, before, strict=True))


def test_a_model_may_say_nothing_of_itself():
    turn_weights(nn.Linear(4, 4))
