import json
import subprocess
import sys

import pytest

from backends.mlx import memory
from backends.mlx.kv_shape import KvShape
from backends.mlx.memory import MemoryPlan, TooSmall, Wishes
from backends.mlx.safetensors_header import BrokenWeights
from tests.backends.mlx.conftest import edit_config

GIB = 1 << 30
STEP = 64
SLACK = 256 + STEP
PER_TOKEN = 4 * 2 * 32 * 2 * 4
"""Of the model that ships: layers, heads, their size, keys and values, float32."""


def plan(directory, *, machine=16 * GIB, **wishes):
    return memory.plan(directory, Wishes(**{"max_batch": 4, **wishes}), memory=machine, step=STEP)


def test_where_there_is_room_every_place_has_the_whole_context(model_dir):
    planned = plan(model_dir)
    told = planned.footprint
    assert (planned.context, told.context, told.concurrency) == (4096, 4096, 4)
    assert planned.kv.tokens == 4 * (4096 + SLACK)
    assert told.kv_cache == planned.kv.tokens * PER_TOKEN
    assert told.bytes_per_token == PER_TOKEN
    assert told.weights == pytest.approx((model_dir / "model.safetensors").stat().st_size, rel=0.01)
    assert told.prompt_cache == told.kv_cache // 4
    assert told.overhead > 0
    assert not told.estimated


def test_a_shorter_context_takes_less(model_dir):
    planned = plan(model_dir, context=512)
    assert (planned.context, planned.kv.tokens) == (512, 4 * (512 + SLACK))
    assert plan(model_dir, context=10**6).context == 4096, "the model reads no more"


def test_a_small_machine_gets_a_quarter_of_what_the_weights_leave(model_dir):
    planned = plan(model_dir, machine=30 << 20)
    free = (30 << 20) - planned.footprint.weights
    assert planned.footprint.kv_cache == free // 4
    assert planned.kv.tokens == free // 4 // PER_TOKEN
    assert planned.context == planned.kv.tokens - SLACK < 4096


def test_sizes_that_are_given_hold(model_dir):
    planned = plan(model_dir, machine=1, kv_cache=2000 * PER_TOKEN, prompt_cache=5)
    assert planned.kv.tokens == 2000
    assert (planned.footprint.kv_cache, planned.footprint.prompt_cache) == (2000 * PER_TOKEN, 5)
    assert planned.context == 2000 - SLACK


def test_adapters_take_what_they_have_in_numbers(model_dir):
    adapter = str(model_dir / "adapters" / "a")
    told = plan(model_dir, adapters=(adapter, adapter)).footprint
    assert told.adapters == 2 * 38912 * 4
    assert told.total - told.adapters == plan(model_dir).footprint.total


def test_a_cache_that_holds_no_sequence_is_refused_with_the_numbers(model_dir):
    with pytest.raises(TooSmall, match=r"KV cache of 4\.0 KiB holds 2 tokens at 2\.0 KiB each"):
        plan(model_dir, kv_cache=2 * PER_TOKEN)
    with pytest.raises(TooSmall, match="or more"):
        plan(model_dir, machine=6 << 20)


def test_what_is_measured_takes_the_place_of_what_was_told(model_dir):
    wishes = Wishes(max_batch=4)
    planned = plan(model_dir)
    double = planned.measured(KvShape(per_token=2 * PER_TOKEN, layers=4), wishes)
    assert isinstance(double, MemoryPlan)
    assert double.kv.tokens == planned.kv.tokens // 2
    assert double.context == 4096
    huge = KvShape(per_token=8 * PER_TOKEN, layers=4)
    assert planned.measured(huge, wishes).context == planned.kv.tokens // 8 - SLACK


def test_a_model_without_a_growing_cache_has_room_for_all_places():
    shape = KvShape(per_token=0, per_sequence=1000, layers=4, estimated=True)
    kv = memory.kv_plan(shape, 4000, max_batch=4, context=1000, slack=10)
    assert kv.tokens == 4 * 1010


def test_what_a_model_of_images_says_of_its_text_counts(copy):
    config = json.loads((copy / "config.json").read_text())
    text = {**config, "model_type": "llama", "max_position_embeddings": 777}
    (copy / "config.json").write_text(json.dumps({"model_type": "vlm", "text_config": text}))
    assert plan(copy).context == 777


def test_a_model_that_does_not_say_its_context(copy):
    edit_config(copy, max_position_embeddings=None)
    assert plan(copy).context == memory.UNKNOWN_CONTEXT


def test_quantized_weights_compute_in_the_type_of_their_scales(copy):
    header = {
        "model.layers.0.self_attn.k_proj.weight": ("U32", 4096),
        "model.layers.0.self_attn.k_proj.scales": ("BF16", 128),
        "norm": ("F32", 1024),
    }
    at, entries = 0, {}
    for name, (dtype, size) in header.items():
        entries[name] = {"dtype": dtype, "shape": [], "data_offsets": [at, at + size]}
        at += size
    raw = json.dumps(entries).encode()
    content = len(raw).to_bytes(8, "little") + raw + b"\0" * at
    (copy / "model.safetensors").write_bytes(content)
    told = plan(copy).footprint
    assert (told.bytes_per_token, told.weights) == (PER_TOKEN // 2, at)


def test_broken_files(copy):
    whole = (copy / "model.safetensors").read_bytes()
    (copy / "model.safetensors").write_bytes(whole[:-1])
    with pytest.raises(BrokenWeights, match="1 bytes are missing"):
        plan(copy)
    (copy / "config.json").write_text("{")
    with pytest.raises(ValueError, match="is no JSON object"):
        plan(copy)


def test_planning_imports_no_mlx(model_dir):
    program = (
        "import sys; from pathlib import Path; from backends.mlx import memory;"
        f"memory.plan(Path({str(model_dir)!r}), memory.Wishes(max_batch=1), memory=2**34, step=64);"
        "sys.exit('mlx' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], check=False).returncode == 0
