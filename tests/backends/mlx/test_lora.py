"""Adapters beside a model, by what it computes; what mlx-lm makes of them is the measure."""

import io
from pathlib import Path

import mlx.core as mx
import msgspec
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model, quantize_model

from backends.base import Adapter
from backends.mlx.adapter_files import BadAdapter, look_at
from backends.mlx.lora import Lora

TOKENS = mx.array([[5, 6, 7, 8]])


@pytest.fixture
def adapters(model_dir):
    return [Adapter(name, str(model_dir / "adapters" / name)) for name in ("a", "b")]


@pytest.fixture
def model(model_dir):
    return load_model(model_dir)[0]


def files_of(adapter):
    return look_at(Path(adapter.path))


def load(lora, adapter, *, keep=None, change=None):
    """Load it, or only the layers that `keep` says, or with other tensors."""
    files = files_of(adapter)
    if keep is not None:
        layers = {name: one for name, one in files.layers.items() if keep(name)}
        files = msgspec.structs.replace(files, layers=layers)
    content = files.weights.read_bytes()
    if change is not None:
        tensors = mx.load(io.BytesIO(content), format="safetensors")
        change(tensors)
        file = io.BytesIO()
        mx.save_safetensors(file, tensors)
        content = file.getvalue()
    lora.load(adapter, files, content)


def compute(lora, model, *rows):
    with lora.rows(rows):
        return model(mx.repeat(TOKENS, len(rows), axis=0))


def same(one, other):
    return bool(mx.allclose(one, other, atol=1e-4).item())


def test_a_row_gets_what_mlx_lm_would_make_of_it(model, model_dir, adapters):
    lora = Lora(model)
    base = model(TOKENS)[0]
    for adapter in adapters:
        load(lora, adapter)
    a, b = adapters
    mixed = compute(lora, model, a, None, b, a)
    for adapter, row in ((a, mixed[0]), (b, mixed[2])):
        theirs = load_adapters(load_model(model_dir)[0], adapter.path)(TOKENS)[0]
        assert same(row, theirs)
        assert not same(row, base)
    assert same(mixed[1], base)
    assert same(mixed[3], mixed[0])


def test_without_rows_that_have_one_the_model_is_as_it_was(model, adapters):
    lora = Lora(model)
    base = model(TOKENS)
    load(lora, adapters[0])
    assert mx.array_equal(model(TOKENS), base).item()
    assert mx.array_equal(compute(lora, model, None), base).item()


def test_pefts_format_is_the_same_numbers(model, model_dir, adapters):
    files = files_of(adapters[0])
    peft = msgspec.structs.replace(
        files,
        weights=files.weights.with_name("adapter_model.safetensors"),
        transposed=True,
        layers={
            layer: msgspec.structs.replace(
                one,
                down=f"base_model.model.{layer}.lora_A.weight",
                up=f"base_model.model.{layer}.lora_B.weight",
            )
            for layer, one in files.layers.items()
        },
    )
    lora = Lora(model)
    lora.load(adapters[0], files, files.weights.read_bytes())
    lora.load(adapters[1], peft, peft.weights.read_bytes())
    one, other = compute(lora, model, *adapters)
    assert mx.array_equal(one, other).item()


def test_one_that_goes_leaves_the_others_and_at_last_nothing(model, adapters):
    lora = Lora(model)
    before = [name for name, _ in tree_flatten(model.parameters())]
    a, b = adapters
    for adapter in adapters:
        load(lora, adapter)
    both = compute(lora, model, a, b)
    held = lora.nbytes
    lora.unload(a)
    assert a not in lora
    assert b in lora
    assert lora.nbytes == held // 2
    assert same(compute(lora, model, b)[0], both[1])
    lora.unload(b)
    lora.unload(b)
    assert lora.nbytes == 0
    assert [name for name, _ in tree_flatten(model.parameters())] == before


def test_adapters_of_different_layers_and_ranks(model, adapters):
    """What is filled up with zeros adds nothing, whoever comes or goes first."""
    a, b = adapters

    def alone(adapter, **how):
        lora = Lora(model)
        load(lora, adapter, **how)
        result = compute(lora, model, adapter)[0]
        lora.unload(adapter)
        return result

    def narrow(tensors):
        for name, tensor in tensors.items():
            tensors[name] = tensor[:, :2] if name.endswith("_a") else tensor[:2]

    def in_attention(name):
        return "self_attn" in name

    def elsewhere(name):
        return "self_attn" not in name or ".0." in name

    as_a = {"keep": in_attention, "change": narrow}
    as_b = {"keep": elsewhere}
    expected = [alone(a, **as_a), alone(b, **as_b)]
    lora = Lora(model)
    load(lora, a, **as_a)
    load(lora, b, **as_b)
    for got, wanted in zip(compute(lora, model, a, b), expected, strict=True):
        assert same(got, wanted)
    lora.unload(b)
    assert same(compute(lora, model, a)[0], expected[0])
    load(lora, b, **as_b)
    lora.unload(a)
    assert same(compute(lora, model, b)[0], expected[1])


def test_what_is_being_computed_goes_on_with_what_was_there(model, adapters):
    lora = Lora(model)
    a, b = adapters
    load(lora, a)
    expected = mx.array(compute(lora, model, a))
    mx.eval(expected)
    lazy = compute(lora, model, a)
    load(lora, b)
    lora.unload(a)
    assert same(lazy, expected)


def test_a_quantized_model(model_dir, adapters):
    model, config = load_model(model_dir)
    model, _ = quantize_model(model, config, group_size=32, bits=8)
    base = model(TOKENS)[0]
    lora = Lora(model)
    load(lora, adapters[0])
    mixed = compute(lora, model, adapters[0], None)
    assert not same(mixed[0], base)
    assert bool(mx.allclose(mixed[1], base, atol=1e-3).item())


def test_a_model_of_half_precision_computes_in_it(model, adapters):
    model.set_dtype(mx.bfloat16)
    lora = Lora(model)
    load(lora, adapters[0])
    assert lora.nbytes == lora.number_size * files_of(adapters[0]).numbers
    assert compute(lora, model, adapters[0]).dtype == mx.bfloat16


def test_a_number_that_is_none_is_refused_by_the_layer_that_has_it(model, adapters):
    def spoil(tensors):
        name = "model.layers.1.mlp.up_proj.lora_a"
        tensors[name] = tensors[name] * float("nan")

    lora = Lora(model)
    with pytest.raises(BadAdapter, match=r"layers\.1\.mlp\.up_proj holds something that is no num"):
        load(lora, adapters[0], change=spoil)
    assert adapters[0] not in lora
    assert lora.nbytes == 0


def test_one_that_makes_no_numbers_is_taken_away_again(model, adapters):
    def blow_up(tensors):
        for name, tensor in tensors.items():
            tensors[name] = mx.full(tensor.shape, 1e30)

    lora = Lora(model)
    base = model(TOKENS)
    with pytest.raises(BadAdapter, match="not a number"):
        load(lora, adapters[0], change=blow_up)
    assert adapters[0] not in lora
    assert mx.array_equal(model(TOKENS), base).item()


def test_a_layer_that_is_no_linear_one_is_not_there(model, adapters):
    files = files_of(adapters[0])
    (layer, one), *_ = files.layers.items()
    odd = msgspec.structs.replace(files, layers={"model.embed_tokens": one, layer: one})
    with pytest.raises(BadAdapter, match=r"it adapts model\.embed_tokens, which is not in"):
        Lora(model).load(adapters[0], odd, odd.weights.read_bytes())


def test_a_layer_of_another_shape_is_named(model, adapters):
    files = files_of(adapters[0])
    layer = "model.layers.0.mlp.down_proj"
    odd = msgspec.structs.replace(
        files, layers={layer: msgspec.structs.replace(files.layers[layer], inputs=100)}
    )
    with pytest.raises(BadAdapter, match=r"down_proj has 100 inputs and 128 outputs"):
        Lora(model).load(adapters[0], odd, odd.weights.read_bytes())


@pytest.mark.parametrize("content", [b"", b"\0" * 100])
def test_weights_that_cannot_be_read(model, adapters, content):
    with pytest.raises(BadAdapter, match="cannot be read"):
        Lora(model).load(adapters[0], files_of(adapters[0]), content)


def test_each_load_has_a_number_of_its_own(model, adapters):
    lora = Lora(model)
    load(lora, adapters[0])
    first = lora.load_number(adapters[0])
    load(lora, adapters[0])
    assert lora.load_number(adapters[0]) == first
    lora.unload(adapters[0])
    load(lora, adapters[0])
    assert lora.load_number(adapters[0]) != first
