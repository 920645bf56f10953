"""What config.json tells is held against what mlx-lm's models really keep."""

import importlib

import mlx.core as mx
import pytest
from mlx_lm.models.cache import make_prompt_cache

from backends.mlx.caches import measure
from backends.mlx.kv_shape import KvShape, kv_shape

TOKENS = 5
SMALL = {
    "vocab_size": 64,
    "hidden_size": 64,
    "num_hidden_layers": 4,
    "intermediate_size": 128,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "rms_norm_eps": 1e-5,
    "max_position_embeddings": 512,
    "tie_word_embeddings": True,
}
PLAIN = {
    "llama": {},
    "qwen3": {"head_dim": 32, "rope_theta": 1e4},
    "qwen2": {"sliding_window": 128, "use_sliding_window": False},
    "gemma2": {"head_dim": 32, "layer_types": ["sliding_attention", "full_attention"] * 2}
    | {"sliding_window": 16},
    "deepseek_v3": {"kv_lora_rank": 16, "q_lora_rank": 8, "qk_rope_head_dim": 8, "v_head_dim": 16}
    | {"qk_nope_head_dim": 16, "first_k_dense_replace": 99},
}
WINDOWED = {
    "gemma3_text": {"head_dim": 32, "sliding_window": 16, "sliding_window_pattern": 2},
    "olmo3": {"rope_theta": 1e4, "sliding_window": 16}
    | {"layer_types": ["sliding_attention", "full_attention"] * 2},
    "llama": {"sliding_window": 16, "layer_types": ["sliding_attention", "full_attention"] * 2},
}
RECURRENT = {
    "mamba": {"state_size": 16, "conv_kernel": 4, "use_bias": False, "use_conv_bias": True}
    | {"time_step_rank": 4},
    "lfm2": {"norm_eps": 1e-5, "conv_bias": False, "conv_L_cache": 3, "block_dim": 64}
    | {"block_ff_dim": 128, "block_multiple_of": 8, "block_ffn_dim_multiplier": 1.0}
    | {"block_auto_adjust_ff_dim": False, "rope_theta": 1e4}
    | {"layer_types": ["conv", "conv", "full_attention", "conv"], "full_attn_idxs": [2]},
}


def real(model_type, more):
    """The shape of what a model with random weights has kept after a few tokens."""
    module = importlib.import_module(f"mlx_lm.models.{model_type}")
    model = module.Model(module.ModelArgs.from_dict({**config(model_type, more)}))
    mx.eval(model.parameters())
    cache = make_prompt_cache(model)
    model(mx.array([[1] * TOKENS]), cache=cache)
    merged = [one.merge([one]).extract(0) for one in cache]
    mx.eval([one.state for one in merged])
    return measure(merged, TOKENS)


def config(model_type, more):
    return {**SMALL, "model_type": model_type, **more}


@pytest.mark.parametrize("model_type", PLAIN)
def test_where_all_layers_grow_it_is_exact(model_type):
    told = kv_shape(config(model_type, PLAIN[model_type]), 4)
    found = real(model_type, PLAIN[model_type])
    assert (told.per_token, told.per_sequence) == (found.per_token, found.per_sequence)


@pytest.mark.parametrize("model_type", WINDOWED)
def test_windows_are_counted_once_a_sequence(model_type):
    told = kv_shape(config(model_type, WINDOWED[model_type]), 4)
    found = real(model_type, WINDOWED[model_type])
    assert (told.per_token, told.per_sequence) == (found.per_token, found.per_sequence)
    assert not told.estimated


@pytest.mark.parametrize("model_type", RECURRENT)
def test_states_are_estimated_and_never_too_low(model_type):
    told = kv_shape(config(model_type, RECURRENT[model_type]), 4)
    found = real(model_type, RECURRENT[model_type])
    assert told.per_token == found.per_token
    assert told.per_sequence >= found.per_sequence
    assert told.estimated


def test_the_size_of_a_number_counts():
    assert kv_shape(SMALL, 2).per_token * 2 == kv_shape(SMALL, 4).per_token == 4 * 2 * 16 * 2 * 4


def test_linear_attention_in_between():
    told = kv_shape({**SMALL, "full_attention_interval": 4, "linear_num_value_heads": 4}, 2)
    assert told.per_token == kv_shape({**SMALL, "num_hidden_layers": 1}, 2).per_token
    assert told.estimated


def test_layers_that_share_the_cache_of_others_have_none():
    more = {"layer_types": ["full_attention"] * 4, "num_kv_shared_layers": 3}
    assert kv_shape({**SMALL, **more}, 2).per_token * 4 == kv_shape(SMALL, 2).per_token


def test_a_pattern_of_blocks():
    told = kv_shape({**SMALL, "hybrid_override_pattern": "M-M*-M"}, 2)
    assert told.per_token * 4 == kv_shape(SMALL, 2).per_token


@pytest.mark.parametrize(
    "more", [{"layer_types": ["something new"] * 4}, {"mamba_d_state": 16}, {"kv_lora_rank": 8}]
)
def test_what_is_not_known_is_taken_to_grow_and_said(more):
    rest = {"qk_rope_head_dim": 8, "qk_nope_head_dim": 8}
    told = kv_shape({**SMALL, **rest, **more}, 2)
    assert told.estimated
    assert told.per_token >= 4 * 4 * 16 * 2 * 2 // 2


def test_a_configuration_that_does_not_say():
    with pytest.raises(ValueError, match=r"config\.json does not say num_hidden_layers"):
        kv_shape({"hidden_size": 64}, 2)
    with pytest.raises(ValueError, match="num_attention_heads"):
        kv_shape({"num_hidden_layers": 2, "hidden_size": 64}, 2)


def test_a_model_of_states_alone_needs_no_heads():
    state = {"model_type": "mamba", "num_hidden_layers": 2, "hidden_size": 64, "state_size": 16}
    assert kv_shape(state, 2) == KvShape(
        per_token=0, per_sequence=2 * 128 * 24 * 4, layers=2, estimated=True
    )
