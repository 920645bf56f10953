"""Adapters beside a model, by what it computes, as mlx-lm would; and by what an engine answers."""

import asyncio
import io
import json
import shutil
from pathlib import Path

import mlx.core as mx
import msgspec
import pytest
from mlx.utils import tree_flatten
from mlx_lm.tuner.utils import load_adapters
from mlx_lm.utils import load_model, quantize_model

from backends.base import Adapter, BackendError, Endpoint, Request, RequestRefused, Stage
from backends.inprocess.backend import ADDRESS
from backends.mlx import model as model_files
from backends.mlx.adapter_files import BadAdapter, look_at
from backends.mlx.lora import Lora
from tests.support.voices import QUESTIONS, voice_of

CHAT = {"messages": [{"role": "user", "content": QUESTIONS[0]}], "temperature": 0}
LONG = {"messages": [{"role": "user", "content": "x"}], "ignore_eos": True, "max_tokens": 3000}
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


# ---- as an engine answers ----


@pytest.fixture
def named(model_dir):
    """The adapters that ship: name to directory."""
    return {name: str(model_dir / "adapters" / name) for name in ("a", "b")}


@pytest.fixture
async def adapted(open_client, named):
    async with open_client(adapters=named, max_batch=8) as client:
        yield client


@pytest.fixture
def a(named):
    return Adapter("a", named["a"])


@pytest.fixture
def b(named):
    return Adapter("b", named["b"])


async def send(client, adapter, endpoint=Endpoint.CHAT, **body):
    body = {"model": "tiny-tale", **body}
    request = Request(
        endpoint=endpoint,
        body=json.dumps(body).encode(),
        stream=bool(body.get("stream")),
        adapter=adapter,
    )
    return await client.backend.send(ADDRESS, request)


async def ask(client, adapter, **body):
    reply = await send(client, adapter, **body)
    return json.loads(b"".join([piece async for piece in reply.body]))


async def text(client, adapter, **body):
    answer = await ask(client, adapter, **{**CHAT, **body})
    return answer["choices"][0]["message"]["content"]


async def voice(client, adapter, **body):
    return voice_of(await text(client, adapter, **body))


async def until_busy(client, rows):
    while client.backend.load(ADDRESS).running < rows:
        await asyncio.sleep(0.01)


@pytest.mark.slow
async def test_eight_mixed_requests_answer_as_each_would_alone(adapted, a, b):
    asked = [
        (adapter, {"messages": [{"role": "user", "content": question}], "cache_salt": str(at)})
        for at, question in enumerate(QUESTIONS)
        for adapter in ((None, a) if at % 2 else (b, a))
    ]
    alone = [await text(adapted, adapter, **body) for adapter, body in asked]
    fresh = [(adapter, {**body, "cache_salt": body["cache_salt"] + "'"}) for adapter, body in asked]
    together = await asyncio.gather(*(text(adapted, one, **body) for one, body in fresh))
    assert together == alone
    heard = [voice_of(answer) for answer in together]
    assert heard == [adapter.name if adapter else "base" for adapter, _ in asked]


async def test_what_one_adapter_has_computed_of_a_prompt_is_not_anothers(adapted, a, b):
    answers = [await ask(adapted, one, **CHAT) for one in (None, a, b, None, a, b)]
    cached = [one["usage"]["prompt_tokens_details"]["cached_tokens"] for one in answers]
    assert cached[:3] == [0, 0, 0]
    assert all(cached[3:])
    assert answers[:3] != answers[3:]
    texts = [one["choices"][0]["message"]["content"] for one in answers]
    assert [voice_of(text) for text in texts] == ["base", "a", "b"] * 2


async def test_adapters_come_and_go_while_others_generate(open_client, a, b):
    async with open_client(adapters={"a": a.path}) as client:
        reply = await send(client, a, stream=True, **LONG)
        await until_busy(client, 1)
        await client.backend.load_adapter(ADDRESS, b)
        assert await voice(client, b) == "b"
        assert await client.backend.find_adapters(ADDRESS, [a, b]) == {a, b}
        await client.backend.unload_adapter(ADDRESS, b)
        assert not client.backend.has_adapter(ADDRESS, b)
        assert client.backend.load(ADDRESS).running == 1
        await reply.body.aclose()
        assert await voice(client, a) == "a"


async def test_one_in_use_stays(open_client, a):
    async with open_client(adapters={"a": a.path}) as client:
        reply = await send(client, a, stream=True, **LONG)
        await until_busy(client, 1)
        with pytest.raises(BackendError, match="still used by 1 sequences"):
            await client.backend.unload_adapter(ADDRESS, a)
        assert client.backend.has_adapter(ADDRESS, a)
        await reply.body.aclose()
        while client.backend.load(ADDRESS).running:
            await asyncio.sleep(0.01)
        await client.backend.unload_adapter(ADDRESS, a)
        with pytest.raises(BackendError, match="'a' is not loaded") as caught:
            await text(client, a)
        assert caught.value.stage is Stage.CONNECT


async def test_one_with_other_files_under_the_same_path_is_another_one(
    open_client, named, tmp_path
):
    folder = tmp_path / "adapter"
    shutil.copytree(named["a"], folder)
    adapter = Adapter("it", str(folder))
    async with open_client(adapters={"it": str(folder)}) as client:
        assert await voice(client, adapter) == "a"
        shutil.copytree(named["b"], folder, dirs_exist_ok=True)
        await client.backend.unload_adapter(ADDRESS, adapter)
        await client.backend.load_adapter(ADDRESS, adapter)
        answer = await ask(client, adapter, **CHAT)
    assert voice_of(answer["choices"][0]["message"]["content"]) == "b"
    assert answer["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


async def test_there_are_no_embeddings_of_an_adapter(adapted, a):
    with pytest.raises(RequestRefused, match="ask for the model itself") as caught:
        await send(adapted, a, Endpoint.EMBEDDINGS, input="hello")
    assert caught.value.status == 501


async def test_the_engine_does_not_start_with_one_that_it_cannot_use(open_client, named, tmp_path):
    broken = shutil.copytree(named["a"], tmp_path / "broken")
    (broken / "adapters.safetensors").write_bytes(b"")
    with pytest.raises(BackendError, match=f"{broken}.* is no safetensors file"):
        async with open_client(adapters={"a": str(broken)}):
            pass


async def test_one_for_which_no_memory_is_left_says_the_numbers(
    open_client, a, model_dir, monkeypatch
):
    plan = {"kv_cache": 1 << 26, "prompt_cache": 0, "context": 512}
    planned = model_files.footprint(str(model_dir), max_batch=16, **plan)
    monkeypatch.setattr(model_files, "memory_limit", lambda: planned.total + 1000)
    monkeypatch.setattr(model_files, "_held", lambda: 0)  # by other tests
    async with open_client(**plan) as client:
        with pytest.raises(BackendError, match=r"it takes 152\.0 KiB, and 1000 B of the memory"):
            await client.backend.load_adapter(ADDRESS, a)
        assert await voice(client, None) == "base"
    with pytest.raises(BackendError, match=r"adapters"):
        async with open_client(adapters={"a": a.path}, **plan):
            pass
