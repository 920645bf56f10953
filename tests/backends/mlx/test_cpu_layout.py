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


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("rows", [1, 2, 8])
def test_results_change_by_rounding_at_most(tied, rows):
    model = Tiny(tied=tied)
    tokens = mx.array([[(row * 7 + at) % 64 for at in range(5)] for row in range(rows)])
    before = np.array(model(tokens))
    turn_weights(model)
    after = np.array(model(tokens))
    scale = np.abs(before).max()
    assert np.abs(after - before).max() <= 8 * np.finfo(np.float32).eps * scale


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
