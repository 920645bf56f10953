"""Rows with images beside rows of text, by what they say: the same as each one alone, elsewhere."""

from __future__ import annotations

import json
import shutil

import mlx.core as mx
import msgspec
import numpy as np
import pytest
from mlx_vlm.generate import generate_step
from mlx_vlm.utils import load_model
from transformers import AutoProcessor

from backends.base import Adapter, BackendError, RequestRefused
from backends.inprocess.params import parse_chat
from backends.inprocess.prompt import Prompt
from backends.mlx import model as model_files
from backends.mlx.vision.family import FAMILIES
from tests.backends.mlx.vision.conftest import IMAGE, TOKENS, Asked, Seeing, picture
from tests.support.vision_model import KINDS

pytestmark = pytest.mark.slow

LONG = "Once upon a time there was a fox, and it lived in a wood. " * 6
ASKED = (
    Asked(f"Look {IMAGE} what is this?", [picture(1)]),
    Asked(f"{IMAGE} and {IMAGE} belong together.", [picture(2, (90, 50)), picture(3, (40, 40))]),
    Asked("What is the capital of Spain?"),
    Asked(f"{LONG}{IMAGE}{LONG}What now?", [picture(4, (50, 90))]),
)


def arrays_of(directory, text, pictures):
    """What the whole processor makes of all of it at once: ids, pixels, mask, and the rest."""
    processor = AutoProcessor.from_pretrained(directory, trust_remote_code=False)
    options = {} if directory.name == "llava" else {"add_special_tokens": False}
    made = processor(text=[text], images=[one.pixels for one in pictures], **options)
    arrays = {name: mx.array(value) for name, value in made.items()}
    return [arrays.pop(name) for name in ("input_ids", "pixel_values", "attention_mask")], arrays


def alone(model, engine, asked):
    """What mlx-vlm itself generates, one request at a time."""
    if asked.pictures:
        text = engine.rendered(asked)
        (ids, pixels, mask), others = arrays_of(engine.directory, text, asked.pictures)
    else:
        ids, pixels, others = mx.array([engine.prompt(asked).tokens]), None, {}
        mask = mx.ones_like(ids)
    assert ids[0].tolist() == engine.prompt(asked).tokens
    steps = generate_step(ids, model, pixels, mask, max_tokens=TOKENS, temperature=0.0, **others)
    return [int(token) for (token, _), _ in zip(steps, range(TOKENS), strict=False)]


@pytest.mark.parametrize("kind", [kind for kind in KINDS if not FAMILIES[kind].whole])
def test_all_together_say_what_mlx_vlm_says_one_by_one(seeing, kind):
    engine = seeing(kind)
    model = load_model(engine.directory)
    expected = [alone(model, engine, one) for one in ASKED]
    assert len({tuple(one) for one in expected}) == len(ASKED), "they say different things"
    assert engine.ask(*ASKED) == expected
    assert engine.ask(*ASKED) == expected, "now from the prompt cache"


def in_blocks(engine, asked):
    """What Gemma 3 says with images that look at themselves both ways: all at once, no cache.

    A run of this with Hugging Face's own model, of the same weights, gave the same tokens.
    """
    model = load_model(engine.directory)
    prompt = engine.prompt(asked)
    body, images = model.language_model.model, prompt.vision.images if prompt.vision else ()
    ids, soft = list(prompt.tokens), model.config.image_token_index
    seen = [one.inputs["pixel_values"] for one in images]
    block = np.cumsum(np.diff(np.array([0, *(np.array(ids) == soft)]).astype(int)) == 1)
    block = np.where(np.array(ids) == soft, block, -np.arange(len(ids)) - 1)
    for _ in range(TOKENS):
        tokens = mx.array([ids])
        pixels = mx.array(np.concatenate(seen)) if seen else None
        made = model.get_input_embeddings(tokens, pixels, mask=mx.ones_like(tokens))
        at = np.arange(len(ids))
        of = np.concatenate([block, -at[len(block) :] - 1])
        same = of[:, None] == of[None, :]
        anywhere = (at[:, None] >= at[None, :]) | same
        near = ((at[:, None] >= at) & (at[:, None] < at + body.window_size)) | same
        hidden = made.inputs_embeds * 8.0
        for number, layer in enumerate(body.layers):
            hidden = layer(hidden, mx.array(anywhere if number % 2 else near)[None, None], None)
        logits = model.language_model.lm_head(body.norm(hidden))
        ids.append(int(mx.argmax(logits[0, -1]).item()))
    return ids[-TOKENS:]


def test_images_of_gemma_look_at_themselves_in_both_directions(seeing):
    engine = seeing("gemma3")
    expected = [in_blocks(engine, one) for one in ASKED]
    assert engine.ask(*ASKED) == expected
    assert engine.ask(*ASKED) == expected, "now from the prompt cache"
    assert alone(load_model(engine.directory), engine, ASKED[0]) != expected[0], "mlx-vlm's do not"


@pytest.mark.parametrize("kind", ["idefics3", "qwen2_5_vl"])
def test_a_talk_about_a_picture_computes_only_what_is_new(seeing, kind):
    engine = seeing(kind)
    first = Asked(f"Look {IMAGE} what is this?", [picture(1)])
    prompt = engine.prompt(first)
    engine.finish(engine.insert(prompt))
    more = Asked(f"{first.text} And {IMAGE} this?", [picture(1), picture(2)])
    looked = count_looks(engine)
    cold = engine.prompt(more)
    uid = engine.insert(cold)
    assert engine.runtime.cached_tokens(uid) >= len(prompt.tokens) - 1
    (warm,) = engine.finish(uid)
    assert len(looked) == 1, "the second picture alone"
    engine.runtime.reset()
    (anew,) = engine.finish(engine.insert(cold))
    assert warm == anew


def test_a_window_that_has_moved_on_serves_a_talk_that_goes_on_where_it_ends(seeing):
    engine = seeing("gemma3")
    prompt = engine.prompt(ASKED[3])
    (answer,) = engine.finish(engine.insert(prompt))
    tokens = [*prompt.tokens, *answer, 5, 6, 7]
    sight = msgspec.structs.replace(prompt.vision, length=len(tokens))
    uid = engine.insert(Prompt(tokens, sight))
    assert engine.runtime.cached_tokens(uid) == len(prompt.tokens) + len(answer)
    (warm,) = engine.finish(uid)
    engine.runtime.reset()
    assert engine.finish(engine.insert(Prompt(tokens, sight))) == [warm]


@pytest.mark.parametrize("kind", ["llava", "qwen3_vl"])
def test_the_same_text_about_another_picture_is_another_prompt(seeing, kind):
    engine = seeing(kind)
    before, behind = "Look at this: ", " what is it?"
    one, other = (Asked(f"{before}{IMAGE}{behind}", [picture(seed)]) for seed in (1, 2))
    answers = [engine.finish(engine.insert(engine.prompt(asked)))[0] for asked in (one, other)]
    assert answers[0] != answers[1]
    prompt = engine.prompt(one)
    uid = engine.insert(prompt)
    assert engine.runtime.cached_tokens(uid) == len(prompt.tokens) - 1
    third = engine.prompt(Asked(one.text, [picture(3)]))
    uid = engine.insert(third)
    assert engine.runtime.cached_tokens(uid) == int(third.vision.places[0][0])


def count_looks(engine):
    looked, look_at = [], engine.runtime._model.look_at

    def counted(image):
        looked.append(image)
        return look_at(image)

    engine.runtime._model.look_at = counted
    return looked


def test_a_picture_is_looked_at_once_for_all_choices(seeing):
    engine = seeing("llava")
    looked = count_looks(engine)
    prompt = engine.prompt(ASKED[0])
    uids = [engine.insert(prompt) for _ in range(3)]
    one, *others = engine.finish(*uids)
    assert others == [one, one]
    assert len(looked) == 1


def test_a_look_that_fails_ends_its_own_row_alone(seeing):
    engine = seeing("qwen2_vl")
    (expected,) = engine.ask(ASKED[2])
    look_at = engine.runtime._model.look_at

    def failing(image):
        if image.digest == picture(3, (40, 40)).digest:
            raise RuntimeError("no memory")
        return look_at(image)

    engine.runtime._model.look_at = failing
    broken, other, text = (engine.insert(engine.prompt(ASKED[at])) for at in (1, 0, 2))
    seen = []
    while not engine.faults:
        seen += engine.step()
    assert "no memory" in str(engine.faults[0])
    assert [token.uid for token in seen if token.uid == broken] == [broken], "it is told with one"
    engine.runtime.remove([broken])
    assert engine.finish(text, other)[0] == expected
    assert engine.ask(ASKED[3])


def test_rows_that_leave_at_any_time(seeing):
    engine = seeing("idefics3")
    expected = engine.ask(*ASKED)
    for steps in range(6):
        engine.runtime.reset()
        left = [engine.insert(engine.prompt(one)) for one in (ASKED[3], ASKED[1])]
        stays = engine.insert(engine.prompt(ASKED[0]))
        for _ in range(steps):
            engine.step()
        engine.runtime.remove(left)
        assert engine.finish(stays) == [expected[0]], steps
    assert engine.ask(*ASKED) == expected, "what they left in the prompt cache is right"


def write_adapter(directory, layer, outputs):
    directory.mkdir()
    keys = mx.random.split(mx.random.key(1), 2)
    weights = {
        f"{layer}.lora_A.weight": mx.random.normal((4, 64), key=keys[0]),
        f"{layer}.lora_B.weight": mx.random.normal((outputs, 4), key=keys[1]),
    }
    mx.save_safetensors(str(directory / "adapter_model.safetensors"), weights)
    config = '{"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["up_proj"]}'
    (directory / "adapter_config.json").write_text(config)
    return Adapter(directory.name, str(directory))


@pytest.mark.parametrize(
    ("kind", "layers"),
    [
        ("qwen2_5_vl", "language_model.model.layers"),
        ("qwen2_5_vl", "base_model.model.model.layers"),
        ("qwen2_5_vl", "base_model.model.model.language_model.layers"),
        ("idefics3", "base_model.model.model.text_model.layers"),
    ],
)
def test_an_adapter_changes_its_own_rows_of_text_and_images(seeing, tmp_path, kind, layers):
    engine = seeing(kind)
    adapter = write_adapter(tmp_path / "one", f"{layers}.0.mlp.up_proj", 128)
    engine.runtime._room_for_adapters = 1 << 20
    prompts = [engine.prompt(one) for one in ASKED[:3]]
    base = engine.finish(*map(engine.insert, prompts))
    engine.runtime.load_adapter(adapter, engine.runtime.fetch_adapter(adapter))
    rows = [(prompts[0], None), (prompts[0], adapter), (prompts[2], adapter), (prompts[2], None)]
    answers = engine.finish(*[engine.insert(one, adapter=which) for one, which in rows])
    assert [answers[0], answers[3]] == [base[0], base[2]]
    assert answers[1] != base[0]
    assert answers[2] != base[2]


def test_an_adapter_of_the_encoder_is_refused(seeing, tmp_path):
    engine = seeing("qwen2_5_vl")
    engine.runtime._room_for_adapters = 1 << 20
    adapter = write_adapter(tmp_path / "eyes", "vision_tower.blocks.0.mlp.up_proj", 64)
    with pytest.raises(BackendError, match="vision_tower"):
        engine.runtime.load_adapter(adapter, engine.runtime.fetch_adapter(adapter))


TILED = ("idefics3", "smolvlm")
LONG_TEXT = [5, 6] * 100
"""More than is read at a time."""


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in TILED])
def test_texts_are_embedded_without_any_image(seeing, kind):
    engine = seeing(kind)
    assert engine.runtime.embeds
    vectors = run(engine.runtime.embed([[5, 6, 7], [8], LONG_TEXT]))
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-3)
    (alone,) = run(engine.runtime.embed([[8]]))
    assert vectors[1] == pytest.approx(alone, abs=1e-3)


@pytest.mark.parametrize("kind", TILED)
def test_a_model_that_hides_its_hidden_states_says_so(seeing, kind):
    runtime = seeing(kind).runtime
    assert not runtime.embeds
    with pytest.raises(RequestRefused, match="no hidden states") as caught:
        run(runtime.embed([[5, 6]]))
    assert caught.value.status == 501


def run(generator):
    try:
        while True:
            next(generator)
    except StopIteration as end:
        return end.value


def test_pictures_have_room_and_no_more(seeing):
    engine = seeing("llava")
    room = engine.runtime.prompts._room
    taken = engine.prompt(ASKED[0])
    assert room.free < room.nbytes
    del taken
    assert room.free == room.nbytes
    room._free = 100
    with pytest.raises(RequestRefused) as caught:
        engine.prompt(ASKED[0])
    assert (caught.value.status, caught.value.code) == (429, "engine_overloaded")
    room.nbytes = 100
    with pytest.raises(RequestRefused, match="there is room for") as caught:
        engine.prompt(ASKED[0])
    assert caught.value.status == 400


@pytest.fixture
def no_vlm(monkeypatch):
    """As where mlx-vlm is not installed."""
    find = model_files.find_spec
    monkeypatch.setattr(
        model_files, "find_spec", lambda name: find(name) if name != "mlx_vlm" else None
    )


def test_without_mlx_vlm_a_model_that_mlx_lm_knows_reads_text(vision_dir, no_vlm):
    runtime = model_files.load(str(vision_dir("qwen3_vl")), max_batch=2)
    assert not runtime.sees
    assert "pip install mlx-vlm" in runtime.why_blind
    assert runtime.prompts.text("Hello")
    runtime.close()


def test_without_mlx_vlm_one_that_mlx_lm_does_not_know_is_refused(vision_dir, no_vlm):
    directory = vision_dir("idefics3")
    with pytest.raises(BackendError, match="pip install mlx-vlm") as caught:
        model_files.load(str(directory), max_batch=2)
    assert model_files.objection(str(directory)) == caught.value.message


def test_a_processor_that_cannot_be_used_leaves_a_model_of_text(vision_dir, tmp_path):
    directory = shutil.copytree(vision_dir("gemma3"), tmp_path / "copy")
    (directory / "preprocessor_config.json").write_text('{"image_processor_type": "NoSuch"}')
    engine = Seeing(directory)
    assert not engine.runtime.sees
    assert "the log says why" in engine.runtime.why_blind
    prompt = Prompt(engine.runtime.prompts.text(ASKED[2].text))
    assert len(engine.finish(engine.insert(prompt))[0]) == TOKENS
    engine.runtime.close()


def test_an_image_processor_in_the_file_of_all_is_planned_with_all_the_same(vision_dir, tmp_path):
    alone = vision_dir("qwen3_vl")
    inside = shutil.copytree(alone, tmp_path / "copy")
    said = json.loads((inside / "preprocessor_config.json").read_text())
    (inside / "preprocessor_config.json").unlink()
    (inside / "processor_config.json").write_text(json.dumps({"image_processor": said}))
    planned = [model_files.footprint(str(one), max_batch=2) for one in (alone, inside)]
    assert planned[0].pictures == planned[1].pictures > 0


def test_a_template_in_a_file_of_its_own(vision_dir, tmp_path):
    directory = shutil.copytree(vision_dir("llava"), tmp_path / "copy")
    path = directory / "tokenizer_config.json"
    config = json.loads(path.read_text())
    template = {"chat_template": config.pop("chat_template")}
    path.write_text(json.dumps(config))
    (directory / "chat_template.json").write_text(json.dumps(template))
    engine = Seeing(directory)
    parts = [{"type": "image_url", "image_url": {"url": "x"}}, {"type": "text", "text": "this?"}]
    chat = parse_chat(
        json.dumps({"model": "m", "messages": [{"role": "user", "content": parts}]}).encode()
    )
    prompt = engine.runtime.prompts.chat(chat, [picture(1)])
    assert len(prompt.vision.images) == 1
    engine.runtime.close()
