import msgspec
import pytest

from backends.llama_cpp.gguf_header import GgufHeader
from backends.llama_cpp.memory import context_of, footprint, footprint_of, kv_bytes_per_token
from backends.options import LlamaCppOptions
from tests.support.engines import GGUF

LLAMA_3_8B = {
    "general.architecture": "llama",
    "llama.block_count": 32,
    "llama.context_length": 131072,
    "llama.embedding_length": 4096,
    "llama.attention.head_count": 32,
    "llama.attention.head_count_kv": 8,
}


def header(**more):
    return GgufHeader(LLAMA_3_8B | {f"llama.{key}": value for key, value in more.items()}, 10)


def test_keys_and_values_of_all_layers_in_half_precision():
    assert kv_bytes_per_token(header()) == 32 * 8 * (128 + 128) * 2


def test_heads_may_differ_from_layer_to_layer():
    heads = [8] * 30 + [0, 0]
    more = {"attention.head_count_kv": heads}
    assert kv_bytes_per_token(header(**more)) == 30 * 8 * (128 + 128) * 2


def test_a_head_may_have_a_size_of_its_own():
    more = {"attention.key_length": 256, "attention.value_length": 64}
    assert kv_bytes_per_token(header(**more)) == 32 * 8 * (256 + 64) * 2


@pytest.mark.parametrize(
    ("wanted", "context"), [(None, 8192), (100, 100), (65536, 65536), (10**6, 131072)]
)
def test_the_context_is_what_was_asked_for_within_what_the_model_can(wanted, context):
    assert context_of(header(), wanted) == context


def test_the_shipped_model():
    found = footprint(GGUF, context=None, max_batch=4)
    assert (found.context, found.concurrency, found.bytes_per_token) == (4096, 4, 1024)
    assert found.kv_cache == 4 * 4096 * 1024
    assert found.overhead == (256 << 20) + 4096 * 1024, "embeddings are made in one sequence more"
    assert found.weights == GGUF.stat().st_size
    assert not found.estimated


def test_a_model_that_looks_forward_too_has_no_kv_cache():
    bert = GgufHeader(
        {"general.architecture": "bert", "bert.attention.causal": False, "bert.block_count": 12}, 10
    )
    found = footprint_of(GGUF, bert, context=512, max_batch=4)
    assert (found.kv_cache, found.overhead) == (0, 256 << 20)


def test_llama_cpp_rounds_a_sequences_share_up():
    assert footprint(GGUF, context=257, max_batch=2).kv_cache == 2 * 512 * 1024


def test_what_routing_yaml_says_is_planned():
    options = LlamaCppOptions(model=str(GGUF), context=1000, max_batch=3)
    assert options.footprint() == footprint(GGUF, context=1000, max_batch=3)
    with pytest.raises(OSError, match="No such file"):
        msgspec.structs.replace(options, model="/nowhere.gguf").footprint()
