"""Adapters in routing.yaml: what they make, where they are, what is said about mistakes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from gateway.config.adapters import adapter_models
from gateway.config.checks import objection
from gateway.config.problems import ConfigErrors
from tests.support.engines import MODEL_DIR

ADAPTER = Path(MODEL_DIR) / "adapters" / "a" / "adapter.gguf"
BACKENDS = """backends:
  gpu: {use: vllm, replicas: [http://h], adapters: {v1: /m/v1, v2: /m/v2}}
  other: {use: vllm, replicas: [http://o], adapters: {v2: /m/v2}}
  plain: {use: openai, replicas: [http://p]}
models:
"""


def derived(load_text, *lines):
    return adapter_models(load_text(BACKENDS + "".join(f"  {line}\n" for line in lines)))


def test_each_adapter_makes_a_model_of_its_engines_models(load_text):
    made = derived(load_text, "base: {backend: gpu, aliases: [b, 'x-*']}", "far: {backend: plain}")
    assert list(made) == ["base:v1", "base:v2"]
    assert made["base:v1"].parent == "base"
    assert made["base:v1"].model.aliases == ("b:v1",)
    assert made["base:v1"].model.arms()["default"].adapter == "v1"


def test_a_variant_that_has_an_adapter_is_offered_no_other(load_text):
    assert derived(load_text, "sql: {backend: gpu, adapter: v1}") == {}


def test_those_variants_take_part_whose_backend_has_it(load_text):
    made = derived(
        load_text,
        "m: {variants: {x: {backend: gpu, weight: 0}, y: {backend: other}, z: {backend: plain}}}",
    )
    assert list(made) == ["m:v2"]
    assert list(made["m:v2"].model.variants) == ["x", "y"]


def test_a_glob_makes_none(load_text):
    assert derived(load_text, "'m-*': {backend: gpu}") == {}


def test_they_can_be_named_by_fallbacks_and_keys(load_text):
    text = BACKENDS + "  base: {backend: gpu}\n  m: {backend: plain, fallback: ['base:v1']}\n"
    load_text(
        text + "keys: {a: {value: '${K}', models: ['base:v2', 'base:*']}}",
        {"K": "sk-0123456789abcdef"},
    )


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["m: {backend: gpu, adapter: v11}"], '6: models.m.adapter: the backend "gpu" has no'),
        (["m: {backend: gpu, adapter: v11}"], 'did you mean "v1"'),
        (["m: {backend: plain, adapter: v1}"], 'the backend "plain" has no adapters; add it'),
        (
            ["m:", "  variants:", "    a: {backend: other, adapter: v1}"],
            "8: models.m.variants.a.adapter: ",
        ),
        (
            ["m: {adapter: v1, variants: {a: {backend: gpu}}}"],
            "6: models.m.adapter: `adapter` goes with `backend`, not with `variants`",
        ),
        (
            ["m: {backend: gpu}", "'m:v1': {backend: plain}"],
            '"m:v1" is already the model "m" with its adapter "v1"',
        ),
        (
            ["m: {backend: gpu}", "n: {backend: plain, aliases: ['m:v1']}"],
            '7: models.n.aliases[0]: "m:v1" is already the model',
        ),
        (
            ["m: {backend: gpu, fallback: ['m:v1']}"],
            '"m:v1" is this model itself',
        ),
        (
            ["m: {backend: gpu, fallback: ['m:v3']}"],
            'no model is called "m:v3"',
        ),
    ],
)
def test_mistakes(problems, lines, said):
    text = BACKENDS + "".join(f"  {line}\n" for line in lines)
    (problem,) = problems(text)
    assert said in problem


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("{use: vllm, replicas: [http://h], adapters: {'a:b': /m}}", "a name of at most 64"),
        ("{use: vllm, replicas: [http://h], adapters: {v: ./nowhere}}", "there is no directory"),
        ("{use: vllm, replicas: [http://h], adapters: {v: mine/v.txt}}", "found the file"),
        ("{use: llama_server, replicas: [http://h], adapters: {v: mine}}", "one .gguf file in"),
        ("{use: llama_server, replicas: [http://h], adapters: {v: min/v}}", "there is no file"),
        ("{use: llama_server, launch: {model: t.gguf}, adapters: {v: /x/v}}", "there is no file"),
        ("{use: llama_server, launch: {model: t.gguf}, adapters: {v: 'a,b.gguf'}}", "takes no `,`"),
        ("{use: openai, replicas: [http://h], adapters: {v: /v}}", "adapters"),
    ],
)
def test_places_that_cannot_be(problems, tmp_path, backend, said):
    (tmp_path / "mine").mkdir()
    for file in ("mine/v.txt", "t.gguf", "a,b.gguf"):
        (tmp_path / file).write_text("")
    told = problems(f"backends: {{b: {backend}}}\nmodels: {{m: {{backend: b}}}}")
    assert any(said in one for one in told), told


def test_a_path_is_seen_from_the_file_and_a_folder_stands_for_its_gguf(load_text, tmp_path):
    (tmp_path / "ad").mkdir()
    (tmp_path / "ad" / "x.gguf").write_bytes(ADAPTER.read_bytes())
    config = load_text(
        "backends:\n"
        "  v: {use: vllm, replicas: [http://h], adapters: {here: ad, there: /elsewhere/ad}}\n"
        "  l: {use: llama_server, replicas: [http://l], adapters: {here: ad}}\n"
        "models: {m: {backend: v}}"
    )
    assert config.backends["v"].adapters == {"here": str(tmp_path / "ad"), "there": "/elsewhere/ad"}
    assert config.backends["l"].adapters == {"here": str(tmp_path / "ad" / "x.gguf")}


def test_no_clash_where_each_name_is_one_thing(load_text):
    assert objection(load_text(BACKENDS + "  base: {backend: gpu, aliases: [b]}\n")) is None


def test_an_adapter_that_mlx_could_not_use_is_a_mistake_at_its_place(load_text):
    def complain(path):
        text = json.dumps(
            {
                "backends": {
                    "mac": {"use": "mlx", "model": str(MODEL_DIR), "adapters": {"v1": path}}
                },
                "models": {"tale": {"backend": "mac", "adapter": "v1"}},
            }
        )
        with pytest.raises(ConfigErrors) as caught:
            load_text(text)
        return str(caught.value)

    assert "backends.mac.adapters.v1: there is no directory" in complain("/nowhere")
    assert "is no LoRA adapter: it has no adapter_config.json" in complain(str(MODEL_DIR))
