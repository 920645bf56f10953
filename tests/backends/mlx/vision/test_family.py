"""Which way a directory is loaded, and what is said of one that stays blind."""

import pytest

from backends.mlx.vision.family import FAMILIES, choose, longest_step

SEEING = {"model_type": "qwen2_5_vl", "vision_config": {"hidden_size": 8}, "hidden_size": 8}
EYES = ("visual.blocks.0.attn.qkv.weight", "model.layers.0.mlp.up_proj.weight")
FILES = ("config.json", "preprocessor_config.json")


def way(config=SEEING, **given):
    found = {"tensors": EYES, "files": FILES, "reads_text": True, "installed": True, **given}
    return choose(config, **found)


def test_a_model_of_text_is_one():
    found = way({"model_type": "llama"}, tensors=(), installed=False)
    assert (found.family, found.objection) == (None, None)
    assert found.why_blind == "this model takes text only"


def test_a_model_that_nobody_knows():
    found = way({"model_type": "no-such"}, reads_text=False)
    assert found.objection == "mlx-lm does not know its model_type, 'no-such'"


@pytest.mark.parametrize("kind", FAMILIES)
def test_a_model_that_sees(kind):
    found = way({**SEEING, "model_type": kind})
    assert found.family == FAMILIES[kind]
    assert found.objection is None


def test_without_mlx_vlm_it_reads_text_and_says_what_to_install():
    found = way(installed=False)
    assert (found.family, found.objection) == (None, None)
    assert "pip install mlx-vlm" in found.why_blind


def test_without_mlx_vlm_one_that_mlx_lm_does_not_know_is_refused_with_what_to_install():
    found = way({**SEEING, "model_type": "idefics3"}, installed=False, reads_text=False)
    assert "pip install mlx-vlm" in found.objection


def test_a_kind_whose_images_are_not_served_is_never_tried():
    found = way({**SEEING, "model_type": "florence2"})
    assert found.family is None
    assert "'florence2'" in found.why_blind
    assert "qwen2_5_vl" in found.why_blind
    assert "not served" in way({**SEEING, "model_type": "florence2"}, reads_text=False).objection


def test_a_text_model_that_has_one_position_for_all_rows():
    config = {**SEEING, "model_type": "mistral3"}
    assert way({**config, "text_config": {"model_type": "mistral"}}).family is not None
    found = way({**config, "text_config": {"model_type": "ministral3"}})
    assert found.family is None
    assert "'mistral3' with one of 'ministral3' inside" in found.why_blind


def test_a_copy_whose_text_model_is_described_where_mlx_vlm_does_not_look():
    config = {**SEEING, "text_config": {"hidden_size": 8}}
    assert way(config).family is not None
    del config["hidden_size"]
    assert "text_config" in way(config).why_blind
    assert way({**config, "model_type": "qwen3_vl"}).family is not None


def test_code_that_comes_with_a_checkpoint_is_not_run():
    assert way({**SEEING, "model_file": "evil.py"}).family is None


def test_a_copy_whose_encoder_was_left_out():
    found = way(tensors=EYES[1:])
    assert found.family is None
    assert found.why_blind == "this copy of the model holds no image encoder"


def test_a_copy_without_the_files_of_its_processor():
    assert "preprocessor_config.json" in way(files=("config.json",)).why_blind
    assert way(files=("config.json", "processor_config.json")).family is not None


def test_an_image_that_may_not_be_cut_is_read_at_once():
    assert longest_step(None, {}, 64) == 64
    assert longest_step(FAMILIES["llava"], {"mm_tokens_per_image": 256}, 64) == 64
    whole = FAMILIES["gemma3"]
    assert longest_step(whole, {"mm_tokens_per_image": 100}, 64) == 100
    assert longest_step(whole, {"text_config": {"mm_tokens_per_image": 100}}, 512) == 512
    assert longest_step(whole, {}, 64) == 256
