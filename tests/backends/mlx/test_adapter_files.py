import json
import shutil
from pathlib import Path

import pytest

from backends.mlx.adapter_files import BadAdapter, check_base, look_at, size_of
from backends.mlx.safetensors_header import read_header

LAYER = "model.layers.0.mlp.down_proj"


@pytest.fixture
def adapter(model_dir, tmp_path):
    """A copy of one that ships, in both formats."""
    return shutil.copytree(model_dir / "adapters" / "a", tmp_path / "adapter")


@pytest.fixture
def peft(adapter):
    """The same without mlx-lm's files and words."""
    (adapter / "adapters.safetensors").unlink()
    rewrite(adapter, fine_tune_type=None, num_layers=None, lora_parameters=None)
    return adapter


def rewrite(adapter, **fields):
    """Change the adapter's configuration; None takes a field away."""
    path = adapter / "adapter_config.json"
    config = {**json.loads(path.read_text()), **fields}
    path.write_text(json.dumps({name: v for name, v in config.items() if v is not None}))


def edit(path, change):
    """Rewrite a file with another header: `change` gets the old one, by tensor."""
    raw = path.read_bytes()
    size = int.from_bytes(raw[:8], "little")
    header = json.loads(raw[8 : 8 + size])
    change(header)
    new = json.dumps(header).encode()
    path.write_bytes(len(new).to_bytes(8, "little") + new + raw[8 + size :])


def test_both_formats_say_the_same(adapter, peft):
    theirs = look_at(peft)
    ours = look_at(Path(__file__).parents[3] / "models" / "tiny-tale" / "adapters" / "a")
    assert (ours.transposed, theirs.transposed) == (False, True)
    assert ours.scale == theirs.scale == 2.0
    assert ours.numbers == theirs.numbers
    shapes = {
        layer: (one.inputs, one.rank, one.outputs)
        for files in (ours, theirs)
        for layer, one in files.layers.items()
    }
    assert len(shapes) == len(ours.layers) == len(theirs.layers) == 28
    assert shapes[LAYER] == (384, 4, 128)


def test_it_is_for_the_model_that_ships(adapter, model_dir):
    check_base(look_at(adapter), model_dir)
    assert size_of([adapter, adapter], 2) == 4 * look_at(adapter).numbers


def test_the_scale_is_stabilised_where_peft_has_done_so(peft):
    rewrite(peft, use_rslora=True)
    assert look_at(peft).scale == 4.0


@pytest.mark.parametrize("missing", ["adapter_config.json", "adapter_model.safetensors"])
def test_a_directory_without_an_adapter_says_what_is_missing(peft, missing):
    (peft / missing).unlink()
    with pytest.raises(BadAdapter, match=f"is no LoRA adapter: it has no .*{missing}"):
        look_at(peft)


@pytest.mark.parametrize("text", ["", "[]", "{", "\xff", "[" * 10_000])
def test_a_configuration_that_is_none(adapter, text):
    (adapter / "adapter_config.json").write_text(text, encoding="latin-1")
    with pytest.raises(BadAdapter, match=r"adapter_config\.json is no JSON object"):
        look_at(adapter)


@pytest.mark.parametrize(
    ("fields", "what"),
    [
        ({"fine_tune_type": "dora"}, "'dora'"),
        ({"fine_tune_type": "full"}, "'full'"),
        ({"peft_type": "IA3"}, "'IA3'"),
        ({"bias": "all"}, "biases"),
        ({"use_dora": True}, "DoRA"),
        ({"modules_to_save": ["lm_head"]}, "modules_to_save"),
        ({"rank_pattern": {"q_proj": 8}}, "rank_pattern"),
        ({"alpha_pattern": {"q_proj": 8}}, "alpha_pattern"),
    ],
)
def test_what_is_no_plain_lora_is_refused(adapter, fields, what):
    rewrite(adapter, **fields)
    with pytest.raises(BadAdapter, match=what):
        look_at(adapter)


@pytest.mark.parametrize(
    "fields", [{"lora_alpha": None}, {"r": None}, {"r": 0}, {"r": "4"}, {"lora_alpha": 1e400}]
)
def test_one_without_a_scale_is_refused(peft, fields):
    rewrite(peft, **fields)
    with pytest.raises(BadAdapter, match=r"does not say lora_alpha and r|no JSON object"):
        look_at(peft)


@pytest.mark.parametrize("parameters", [{}, [], {"scale": "2"}])
def test_mlx_lm_says_the_scale_itself(adapter, parameters):
    rewrite(adapter, lora_parameters=parameters)
    with pytest.raises(BadAdapter, match=r"does not say lora_parameters\.scale"):
        look_at(adapter)


def test_weights_that_were_cut_off(adapter):
    path = adapter / "adapters.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(BadAdapter, match="was cut off: 100 bytes are missing"):
        look_at(adapter)


def _rename(header):
    header["model.layers.0.mlp.norm.weight"] = header.pop(f"{LAYER}.lora_a")


def _alone(header):
    del header[f"{LAYER}.lora_b"]


def _whole_numbers(header):
    header[f"{LAYER}.lora_a"]["dtype"] = "I32"


def _experts(header):
    header[f"{LAYER}.lora_a"]["shape"] = [2, 192, 4]


def _ranks(header):
    header[f"{LAYER}.lora_a"]["shape"] = [192, 8]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_rename, r"layers\.0\.mlp\.norm\.weight is no part of a plain LoRA adapter"),
        (_alone, f"{LAYER} has only one of its two tensors"),
        (_whole_numbers, f"{LAYER}.lora_a has numbers of the type I32"),
        (_experts, f"{LAYER} is adapted for each expert"),
        (_ranks, f"the two tensors of {LAYER} have the ranks 8 and 4"),
        (dict.clear, "has no tensors"),
    ],
)
def test_tensors_that_are_no_pairs_of_low_rank(adapter, change, what):
    edit(adapter / "adapters.safetensors", change)
    with pytest.raises(BadAdapter, match=what):
        look_at(adapter)


def test_an_adapter_of_a_wider_base_says_which_layer_differs(adapter, model_dir):
    def widen(header):
        header[f"{LAYER}.lora_a"]["shape"] = [192, 4]

    edit(adapter / "adapters.safetensors", widen)
    with pytest.raises(BadAdapter, match=rf"{LAYER} has 192 inputs .*, the model's has 384 and"):
        check_base(look_at(adapter), model_dir)


def test_an_adapter_of_a_deeper_base_says_which_layer_is_missing(adapter, model_dir):
    def deepen(header):
        for side in "ab":
            name = f".mlp.down_proj.lora_{side}"
            header[f"model.layers.9{name}"] = header.pop(f"model.layers.0{name}")

    edit(adapter / "adapters.safetensors", deepen)
    with pytest.raises(BadAdapter, match=r"adapts model\.layers\.9\.mlp\.down_proj, which is not"):
        check_base(look_at(adapter), model_dir)


def test_where_the_files_call_layers_otherwise_the_model_decides_when_it_is_loaded(
    adapter, model_dir, tmp_path
):
    model = tmp_path / "model"
    model.mkdir()
    shutil.copy(model_dir / "model.safetensors", model)

    def rename(header):
        for name in header.keys() - {"__metadata__"}:
            header[f"text.{name}"] = header.pop(name)

    edit(model / "model.safetensors", rename)
    assert all(name.startswith("text.") for name in read_header(model / "model.safetensors"))
    check_base(look_at(adapter), model)
