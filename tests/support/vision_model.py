"""Small models of text and images, as checkpoints on disk: random weights, real everything else.

The tokenizer and the template are those of the model that ships, with the tokens that a family
wants for its images. What such a model says means nothing, but it depends on what it sees.
"""

from __future__ import annotations

import importlib
import json
import shutil
from pathlib import Path
from typing import Any

import mlx.core as mx
from mlx.utils import tree_flatten, tree_map

TEXT = Path(__file__).parents[2] / "models" / "tiny-tale"
_FIRST_TOKEN = 2048
_VOCABULARY = 2112
_HIDDEN = 64
_PART = "{%- for part in content if part.type == 'text' -%}"

_CLIP = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28], "do_rescale": True}
_QWEN_TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
_PLACEHOLDERS = {
    "idefics3": "<image>",
    "smolvlm": "<image>",
    "llava": "<image>",
    "mistral3": "[IMG]",
    "pixtral": "[IMG]",
    "qwen2_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen2_5_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen3_vl": "<|vision_start|><|image_pad|><|vision_end|>",
    "qwen3_vl_moe": "<|vision_start|><|image_pad|><|vision_end|>",
    "gemma3": "<start_of_image>",
}
"""What the template writes for an image."""
KINDS = tuple(_PLACEHOLDERS)
_PROCESSORS: dict[str, dict[str, Any]] = {
    "idefics3": {"image_seq_len": 4},
    "smolvlm": {"image_seq_len": 4},
    "llava": {
        "patch_size": 8,
        "vision_feature_select_strategy": "default",
        "num_additional_image_tokens": 1,
    },
    "gemma3": {"image_seq_length": 4},
    "mistral3": {"processor_class": "PixtralProcessor", "patch_size": 8, "spatial_merge_size": 2},
    "pixtral": {"processor_class": "PixtralProcessor", "patch_size": 8},
}
_PIXTRAL_TOKENS = ("[IMG]", "[IMG_BREAK]", "[IMG_END]")
_TILED_TOKENS = (
    "<image>",
    "<fake_token_around_image>",
    "<global-img>",
    "<end_of_utterance>",
    *(f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)),
)
_TOKENS = {
    "idefics3": _TILED_TOKENS,
    "smolvlm": _TILED_TOKENS,
    "llava": ("<image>",),
    "mistral3": _PIXTRAL_TOKENS,
    "pixtral": _PIXTRAL_TOKENS,
    "qwen2_vl": _QWEN_TOKENS,
    "qwen2_5_vl": _QWEN_TOKENS,
    "qwen3_vl": _QWEN_TOKENS,
    "qwen3_vl_moe": _QWEN_TOKENS,
    "gemma3": ("<start_of_image>", "<end_of_image>", "<image_soft_token>"),
}


def make_vision_model(kind: str, directory: Path, *, seed: int = 3) -> Path:
    """Write a model of `kind` into `directory`, which is made; gives it back."""
    directory.mkdir(parents=True)
    tokens = {text: _FIRST_TOKEN + at for at, text in enumerate(_TOKENS[kind])}
    _write_tokenizer(kind, directory, tokens)
    config, processor = _CONFIGS[kind](tokens)
    config |= {"model_type": kind, "eos_token_id": 2, "vocab_size": _VOCABULARY}
    _write(directory / "config.json", config)
    _write(directory / "preprocessor_config.json", processor)
    _write(directory / "processor_config.json", _PROCESSORS.get(kind, {}))
    shutil.copy(TEXT / "generation_config.json", directory)
    _write_weights(kind, config, directory, seed)
    return directory


def _write_tokenizer(kind: str, directory: Path, tokens: dict[str, int]) -> None:
    tokenizer = json.loads((TEXT / "tokenizer.json").read_text())
    tokenizer["added_tokens"] += [
        {
            "id": number,
            "content": text,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for text, number in tokens.items()
    ]
    _write(directory / "tokenizer.json", tokenizer)
    config = json.loads((TEXT / "tokenizer_config.json").read_text())
    template = config["chat_template"]
    assert _PART in template
    seen = "{%- for part in content -%}{%- if part.type == 'image' -%}" + _PLACEHOLDERS[kind]
    template = template.replace(_PART, seen + "{%- endif -%}{%- endfor -%}" + _PART)
    config["chat_template"] = template
    if kind == "gemma3":
        config |= {
            "image_token": "<image_soft_token>",
            "boi_token": "<start_of_image>",
            "eoi_token": "<end_of_image>",
            "extra_special_tokens": {
                "image_token": "<image_soft_token>",
                "boi_token": "<start_of_image>",
                "eoi_token": "<end_of_image>",
            },
        }
    _write(directory / "tokenizer_config.json", config)


def _write_weights(kind: str, config: dict[str, Any], directory: Path, seed: int) -> None:
    """Random ones, of the size that makes answers depend on all of the prompt."""
    from mlx_vlm.utils import update_module_configs

    package = importlib.import_module(f"mlx_vlm.models.{kind}")
    config = json.loads(json.dumps(config))
    parsed = package.ModelConfig.from_dict(config)
    parsed = update_module_configs(parsed, package, config, ["text", "vision"])
    model = package.Model(parsed)
    keys = iter(mx.random.split(mx.random.key(seed), len(tree_flatten(model.parameters()))))

    def random(old: mx.array) -> mx.array:
        scale = 0.15 if old.ndim > 1 else 0.02
        drawn = mx.random.normal(old.shape, key=next(keys)) * scale
        return drawn + (1.0 if old.ndim == 1 and bool((old == 1).all()) else 0.0)

    weights = dict(tree_flatten(tree_map(random, model.parameters())))
    mx.save_safetensors(str(directory / "model.safetensors"), weights, metadata={"format": "mlx"})


def _write(path: Path, content: dict[str, Any]) -> None:
    path.write_text(json.dumps(content, indent=1))


def _text(model_type: str, **more: Any) -> dict[str, Any]:
    return {
        "model_type": model_type,
        "hidden_size": _HIDDEN,
        "intermediate_size": 128,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_hidden_layers": 2,
        "rms_norm_eps": 1e-5,
        "vocab_size": _VOCABULARY,
        "max_position_embeddings": 2048,
        "rope_theta": 10000.0,
        "tie_word_embeddings": False,
        **more,
    }


def _idefics3(tokens: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    vision = {
        "model_type": "idefics3",
        "hidden_size": 32,
        "num_attention_heads": 2,
        "patch_size": 8,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "image_size": 32,
    }
    config = {
        "text_config": _text("llama"),
        "vision_config": vision,
        "scale_factor": 2,
        "image_token_id": tokens["<image>"],
    }
    processor = {
        "image_processor_type": "Idefics3ImageProcessor",
        "processor_class": "Idefics3Processor",
        "do_image_splitting": True,
        "size": {"longest_edge": 64},
        "max_image_size": {"longest_edge": 32},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    return config, processor


def _llava(tokens: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    vision = {
        "model_type": "clip_vision_model",
        "hidden_size": 32,
        "num_attention_heads": 2,
        "patch_size": 8,
        "num_hidden_layers": 3,
        "intermediate_size": 64,
        "image_size": 32,
        "projection_dim": 32,
    }
    config = {
        "text_config": _text("llama"),
        "vision_config": vision,
        "image_token_index": tokens["<image>"],
        "vision_feature_layer": -2,
        "vision_feature_select_strategy": "default",
    }
    processor = {
        "image_processor_type": "CLIPImageProcessor",
        "processor_class": "LlavaProcessor",
        "size": {"shortest_edge": 32},
        "crop_size": {"height": 32, "width": 32},
        **_CLIP,
    }
    return config, processor


def _qwen(tokens: dict[str, int], vision: dict[str, Any], patch: int) -> Any:
    config = {
        "vision_start_token_id": tokens["<|vision_start|>"],
        "vision_end_token_id": tokens["<|vision_end|>"],
        "image_token_id": tokens["<|image_pad|>"],
        "video_token_id": tokens["<|video_pad|>"],
        "vision_config": vision,
    }
    processor = {
        "image_processor_type": "Qwen2VLImageProcessor",
        "processor_class": "Qwen2VLProcessor",
        "min_pixels": (2 * patch) ** 2,
        "max_pixels": (8 * patch) ** 2,
        "patch_size": patch,
        "temporal_patch_size": 2,
        "merge_size": 2,
        **_CLIP,
    }
    return config, processor


_MROPE = {"type": "mrope", "mrope_section": [2, 3, 3], "rope_type": "default"}


def _qwen2_vl(tokens: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    vision = {
        "model_type": "qwen2_vl",
        "depth": 2,
        "embed_dim": 32,
        "hidden_size": _HIDDEN,
        "num_heads": 2,
        "patch_size": 8,
        "spatial_patch_size": 8,
        "mlp_ratio": 2,
    }
    config, processor = _qwen(tokens, vision, 8)
    return _text("qwen2_vl", rope_scaling=_MROPE) | config, processor


def _qwen2_5_vl(tokens: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    vision = {
        "model_type": "qwen2_5_vl",
        "depth": 2,
        "hidden_size": 32,
        "intermediate_size": 64,
        "out_hidden_size": _HIDDEN,
        "num_heads": 2,
        "patch_size": 8,
        "spatial_patch_size": 8,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "window_size": 32,
        "fullatt_block_indexes": [1],
        "tokens_per_second": 2,
    }
    config, processor = _qwen(tokens, vision, 8)
    return _text("qwen2_5_vl", rope_scaling=_MROPE) | config, processor


def _qwen3_vl(tokens: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    vision = {
        "model_type": "qwen3_vl",
        "depth": 3,
        "hidden_size": 32,
        "intermediate_size": 64,
        "out_hidden_size": _HIDDEN,
        "num_heads": 2,
        "patch_size": 8,
        "spatial_merge_size": 2,
        "temporal_patch_size": 2,
        "num_position_embeddings": 64,
        "deepstack_visual_indexes": [0, 1],
    }
    config, processor = _qwen(tokens, vision, 8)
    text = _text("qwen3_vl_text", head_dim=16, rope_scaling=_MROPE | {"mrope_interleaved": True})
    processor["image_processor_type"] = "Qwen2VLImageProcessorFast"
    return config | {"text_config": text}, processor


def _smolvlm(tokens: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    config, processor = _idefics3(tokens)
    processor |= {
        "image_processor_type": "SmolVLMImageProcessor",
        "processor_class": "SmolVLMProcessor",
    }
    return config, processor


def _qwen3_vl_moe(tokens: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    config, processor = _qwen3_vl(tokens)
    config["vision_config"] |= {"model_type": "qwen3_vl_moe"}
    config["text_config"] |= {
        "model_type": "qwen3_vl_moe_text",
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "decoder_sparse_step": 1,
        "mlp_only_layers": [],
        "moe_intermediate_size": 32,
    }
    return config, processor


def _pixtral(tokens: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    vision = {
        "model_type": "pixtral",
        "hidden_size": 32,
        "num_attention_heads": 2,
        "head_dim": 16,
        "patch_size": 8,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "image_size": 64,
    }
    config = {
        "text_config": _text("mistral", head_dim=16),
        "vision_config": vision,
        "image_token_index": tokens["[IMG]"],
        "vision_feature_layer": -1,
    }
    processor = {
        "image_processor_type": "PixtralImageProcessor",
        "processor_class": "PixtralProcessor",
        "size": {"longest_edge": 64},
        "patch_size": {"height": 8, "width": 8},
        **_CLIP,
    }
    return config, processor


def _mistral3(tokens: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    config, processor = _pixtral(tokens)
    return config | {"spatial_merge_size": 2}, processor


def _gemma3(tokens: dict[str, int]) -> tuple[dict[str, Any], dict[str, Any]]:
    vision = {
        "model_type": "siglip_vision_model",
        "hidden_size": 32,
        "num_attention_heads": 2,
        "patch_size": 8,
        "num_hidden_layers": 2,
        "intermediate_size": 64,
        "image_size": 32,
    }
    text = _text(
        "gemma3_text",
        head_dim=16,
        query_pre_attn_scalar=16,
        sliding_window=24,
        sliding_window_pattern=2,
        mm_tokens_per_image=4,
    )
    config = {
        "text_config": text,
        "vision_config": vision,
        "hidden_size": _HIDDEN,
        "mm_tokens_per_image": 4,
        "image_token_index": tokens["<image_soft_token>"],
        "boi_token_index": tokens["<start_of_image>"],
        "eoi_token_index": tokens["<end_of_image>"],
    }
    processor = {
        "image_processor_type": "Gemma3ImageProcessor",
        "processor_class": "Gemma3Processor",
        "size": {"height": 32, "width": 32},
        "image_mean": [0.5, 0.5, 0.5],
        "image_std": [0.5, 0.5, 0.5],
    }
    return config, processor


_CONFIGS = {
    "idefics3": _idefics3,
    "smolvlm": _smolvlm,
    "llava": _llava,
    "mistral3": _mistral3,
    "pixtral": _pixtral,
    "qwen2_vl": _qwen2_vl,
    "qwen2_5_vl": _qwen2_5_vl,
    "qwen3_vl": _qwen3_vl,
    "qwen3_vl_moe": _qwen3_vl_moe,
    "gemma3": _gemma3,
}
