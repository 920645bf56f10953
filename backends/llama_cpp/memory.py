"""What a GGUF model will take of memory, told from its metadata. Pure but for reading that.

llama.cpp sets aside the KV cache of all sequences when the model is loaded. The margin has room for
one sequence more: that is what embeddings are made in, from when they are first asked for.
"""

from __future__ import annotations

from pathlib import Path

from backends.llama_cpp.gguf_header import GgufHeader, read_header
from backends.memory import Footprint

DEFAULT_CONTEXT = 8192
"""Tokens of a sequence where nothing is said: models are trained for 128 Ki and more, whose KV
cache, set aside at once, few machines have room for."""
_STEP = 256
"""llama.cpp rounds a sequence's share of the KV cache up to this many tokens."""
_KV_VALUE = 2
"""Bytes: half precision, llama.cpp's default."""
_MARGIN = 256 << 20
_UNTOLD = frozenset({"ssm.conv_kernel", "ssm.state_size", "attention.sliding_window"})
_UNTOLD_MLA = "attention.kv_lora_rank"


def context_of(header: GgufHeader, wanted: int | None) -> int:
    """Tokens that one sequence may have: what was asked for, within what the model can."""
    trained = header.count("context_length") or DEFAULT_CONTEXT
    return min(wanted or DEFAULT_CONTEXT, trained)


def kv_bytes_per_token(header: GgufHeader) -> int:
    """Of the KV cache, for one token of one sequence."""
    layers = header.count("block_count")
    heads = header.per_layer("attention.head_count", layers, 1)
    kv_heads = header.per_layer("attention.head_count_kv", layers, max(heads, default=1))
    each = header.count("embedding_length") // max([1, *heads])
    key = header.count("attention.key_length", each)
    value = header.count("attention.value_length", each)
    return sum(kv_heads) * (key + value) * _KV_VALUE


def footprint(path: Path, *, context: int | None, max_batch: int) -> Footprint:
    """What the model at `path` will take; raises `GgufError` or `OSError`."""
    return footprint_of(path, read_header(path), context=context, max_batch=max_batch)


def footprint_of(
    path: Path, header: GgufHeader, *, context: int | None, max_batch: int
) -> Footprint:
    """The same, where the header is at hand."""
    tokens = context_of(header, context)
    per_token = kv_bytes_per_token(header)
    rounded = -(-tokens // _STEP) * _STEP
    one = per_token * rounded
    # A model that looks forward too has no KV cache: it reads a text at once.
    causal = header.of_model("attention.causal") is not False
    untold = any(header.of_model(key) is not None for key in (*_UNTOLD, _UNTOLD_MLA))
    return Footprint(
        name=str(path),
        weights=header.nbytes,
        kv_cache=one * max_batch if causal else 0,
        overhead=_MARGIN + (one if causal else 0),
        estimated=untold,
        context=tokens,
        concurrency=max_batch,
        bytes_per_token=per_token,
    )
