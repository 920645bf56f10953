"""What a checkpoint's processor makes of one picture."""

import numpy as np
import pytest
from PIL import Image as Pillow

from backends.mlx.vision.processor import PictureProcessor, spliced
from tests.backends.mlx.vision.conftest import picture
from tests.support.vision_model import KINDS


def test_texts_take_the_places_of_placeholders():
    assert spliced("a<i>b<i>", "<i>", ["1", "<i><i>"]) == "a1b<i><i>"
    assert spliced("a", "<i>", []) == "a"
    with pytest.raises(ValueError, match="2 placeholders for 1 images"):
        spliced("<i><i>", "<i>", ["1"])


@pytest.fixture
def processor(vision_dir):
    from mlx_vlm.utils import get_model_and_args, load_config

    def load(kind, most_pixels=1 << 20):
        directory = vision_dir(kind)
        get_model_and_args(load_config(directory))
        return PictureProcessor(directory, most_pixels=most_pixels)

    return load


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_a_picture_comes_to_its_own_tokens_and_arrays(processor, kind):
    one = processor(kind)
    seen = one.see(*picture(1)[:2])
    assert seen.image.size > 0
    assert 0 not in seen.image.tokens, "nothing that begins a text"
    assert all(isinstance(array, np.ndarray) for array in seen.image.inputs.values())
    assert seen.image.nbytes > 0
    again = one.see(*picture(1)[:2]).image
    assert again.tokens == seen.image.tokens
    assert not np.array_equal(
        one.see(*picture(2)[:2]).image.inputs["pixel_values"], again.inputs["pixel_values"]
    )


@pytest.mark.slow
def test_larger_pictures_are_shrunk_to_what_the_machine_can_look_at(processor):
    large = picture(1, (64, 64))
    assert processor("qwen3_vl", 32 * 32).see(*large[:2]).image.size == 4
    assert processor("qwen3_vl").see(*large[:2]).image.size == 16


@pytest.mark.slow
def test_pictures_of_odd_shapes(processor):
    thin = Pillow.new("RGB", (300, 1)), b"thin"
    with pytest.raises(ValueError, match="aspect ratio"):
        processor("qwen2_vl").see(*thin[:2])
    assert processor("llava").see(*thin[:2]).image.size == 16
