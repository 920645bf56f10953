"""The files of the model: one set for MLX and vLLM, one file for llama.cpp, the same weights.

Nothing is converted but the order of rows in the query and key projections: Hugging Face turns the
two halves of a head against each other, llama.cpp turns neighbours.
"""

import json
from pathlib import Path
from typing import Any

import gguf
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer
from torch import Tensor

from .chat import template_source
from .model import Shape, TinyTale
from .tokenizer import END, END_OF_TEXT, MARKUP, SPECIAL, identity, load_tokenizer

WEIGHTS = "model.safetensors"
GGUF = "tiny-tale-f32.gguf"
NAME = "Tiny Tale"

Weights = dict[str, Tensor]
"""Tensors by their Hugging Face name."""


def save(model: TinyTale, tokenizer: Tokenizer, folder: Path) -> None:
    """Write everything an engine reads into `folder`, which is made if it is not there."""
    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.detach().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    (folder / WEIGHTS).chmod(0o644)  # safetensors keeps its files to their owner
    tokenizer.save(str(folder / "tokenizer.json"))
    write_json(folder / "config.json", model_config(model.shape, tokenizer))
    write_json(folder / "generation_config.json", generation_config(tokenizer))
    write_json(folder / "tokenizer_config.json", tokenizer_config(model.shape))
    write_gguf(folder / GGUF, weights, tokenizer, model.shape)


def export(folder: Path) -> None:
    """Write every file of `folder` again from the weights and the tokenizer that are in it."""
    save(load(folder), load_tokenizer(folder), folder)


def load(folder: Path) -> TinyTale:
    """The model in `folder`, ready to answer."""
    model = TinyTale()
    model.load_state_dict(load_file(folder / WEIGHTS))
    return model.eval()


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write `value` the way people read it."""
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def model_config(shape: Shape, tokenizer: Tokenizer) -> dict[str, Any]:
    """`config.json`: a plain Llama."""
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "vocab_size": shape.vocabulary,
        "hidden_size": shape.hidden,
        "intermediate_size": shape.intermediate,
        "num_hidden_layers": shape.layers,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "max_position_embeddings": shape.context,
        "rope_theta": shape.rope_theta,
        "rms_norm_eps": shape.rms_eps,
        "hidden_act": "silu",
        "attention_bias": False,
        "mlp_bias": False,
        "tie_word_embeddings": False,
        "bos_token_id": identity(tokenizer, END_OF_TEXT),
        "eos_token_id": identity(tokenizer, END),
        "pad_token_id": identity(tokenizer, END_OF_TEXT),
        "dtype": "float32",
        "torch_dtype": "float32",
    }


def generation_config(tokenizer: Tokenizer) -> dict[str, Any]:
    """`generation_config.json`: what ends an answer, and nothing about sampling."""
    return {
        "bos_token_id": identity(tokenizer, END_OF_TEXT),
        "eos_token_id": [identity(tokenizer, END), identity(tokenizer, END_OF_TEXT)],
        "pad_token_id": identity(tokenizer, END_OF_TEXT),
    }


def tokenizer_config(shape: Shape) -> dict[str, Any]:
    """`tokenizer_config.json`: the framing tokens and the chat template; no BOS is ever added."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "model_max_length": shape.context,
        "bos_token": END_OF_TEXT,
        "eos_token": END,
        "pad_token": END_OF_TEXT,
        "add_bos_token": False,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "chat_template": template_source(),
    }


def write_gguf(path: Path, weights: Weights, tokenizer: Tokenizer, shape: Shape) -> None:
    """Write weights, sizes, tokenizer and chat template as one GGUF file in float32."""
    writer = gguf.GGUFWriter(path, gguf.MODEL_ARCH_NAMES[gguf.MODEL_ARCH.LLAMA])
    add_sizes(writer, shape)
    add_tokenizer(writer, tokenizer)
    for name, tensor in gguf_weights(weights, shape).items():
        writer.add_tensor(name, tensor.numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def gguf_weights(weights: Weights, shape: Shape) -> Weights:
    """The tensors under the names and in the order of llama.cpp."""
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, shape.layers)
    renamed: Weights = {}
    for name, tensor in weights.items():
        target = names.get_name(name, try_suffixes=(".weight",))
        if target is None:
            raise ValueError(f"GGUF has no name for the tensor {name}")
        renamed[target] = neighbours(name, tensor, shape)
    return renamed


def add_sizes(writer: gguf.GGUFWriter, shape: Shape) -> None:
    """The metadata that makes the architecture a Llama of this shape."""
    writer.add_name(NAME)
    writer.add_license("apache-2.0")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.hidden)
    writer.add_feed_forward_length(shape.intermediate)
    writer.add_block_count(shape.layers)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_key_length(shape.head_dim)
    writer.add_value_length(shape.head_dim)
    writer.add_rope_dimension_count(shape.head_dim)
    writer.add_rope_freq_base(shape.rope_theta)
    writer.add_layer_norm_rms_eps(shape.rms_eps)


def add_tokenizer(writer: gguf.GGUFWriter, tokenizer: Tokenizer) -> None:
    """The vocabulary and merges; "gpt-2" names the regular expression that splits words."""
    learned = json.loads(tokenizer.to_str())["model"]
    vocabulary = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([token_type(token) for token in tokens])
    writer.add_token_merges([" ".join(pair) for pair in learned["merges"]])
    writer.add_bos_token_id(identity(tokenizer, END_OF_TEXT))
    writer.add_eos_token_id(identity(tokenizer, END))
    writer.add_eot_token_id(identity(tokenizer, END))
    writer.add_pad_token_id(identity(tokenizer, END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(template_source())


def token_type(token: str) -> gguf.TokenType:
    """How llama.cpp treats a token: hidden, shown as it is, or spelled in bytes."""
    if token in SPECIAL:
        return gguf.TokenType.CONTROL
    return gguf.TokenType.USER_DEFINED if token in MARKUP else gguf.TokenType.NORMAL


def neighbours(name: str, tensor: Tensor, shape: Shape) -> Tensor:
    """Reorder the rows (heads x head_dim) of a query or key projection from halves to pairs."""
    if name.endswith("q_proj.weight"):
        heads = shape.heads
    elif name.endswith("k_proj.weight"):
        heads = shape.kv_heads
    else:
        return tensor
    halves = tensor.reshape(heads, 2, shape.head_dim // 2, tensor.shape[1])
    return halves.transpose(1, 2).reshape(tensor.shape).contiguous()
