"""Prompts with pictures: what they hold, and what is said of those that cannot be made."""

from __future__ import annotations

import pytest

from backends.base import RequestRefused
from tests.backends.mlx.vision.conftest import IMAGE, Asked, picture

pytestmark = pytest.mark.slow


def refused(engine, text, *pictures):
    with pytest.raises(RequestRefused) as caught:
        engine.prompt(Asked(text, pictures))
    assert (caught.value.status, caught.value.param) == (400, "messages")
    return str(caught.value)


def test_a_text_that_says_what_stands_for_an_image(seeing):
    engine = seeing("qwen2_vl")
    assert "stands for an image" in refused(engine, f"{IMAGE} <|image_pad|> what?", picture(1))
    assert "0 times instead of 1:" in refused(engine, "no place for it", picture(1))
    gemma = seeing("gemma3")
    assert "stands for an image" in refused(gemma, f"{IMAGE} <image_soft_token>?", picture(1))


def test_a_prompt_that_ends_with_an_image(seeing):
    assert "a text has to follow it" in refused(seeing("llava"), f"Look: {IMAGE}", picture(1))


def test_a_picture_that_the_processor_does_not_take(seeing):
    message = refused(seeing("qwen2_vl"), f"{IMAGE} what?", picture(1, (300, 1)))
    assert "of 300x1 pixels" in message


def test_each_row_and_column_of_an_image_has_its_place(seeing):
    engine = seeing("qwen2_vl")
    prompt = engine.prompt(Asked(f"Look {IMAGE} well", [picture(1, (64, 32))]))
    (places,), positions = prompt.vision.places, prompt.vision.positions
    first = int(places[0])
    assert len(places) == 8
    assert (positions[:, places] - first).tolist() == [
        [0] * 8,
        [0, 0, 0, 0, 1, 1, 1, 1],
        [0, 1, 2, 3, 0, 1, 2, 3],
    ]
    assert prompt.vision.ahead == 4 - 8


def test_line_breaks_around_an_image_are_those_of_the_whole_text(seeing):
    engine = seeing("gemma3")
    prompt = engine.prompt(Asked(f"One\n{IMAGE}\n\ntwo", [picture(1)]))
    text = engine.runtime.prompts.decode_all(prompt.tokens)
    assert prompt.tokens == engine.runtime.prompts._encode_rendered(text)
    assert text.startswith("One\n\n\n<start_of_image>")


def test_a_tokenizer_that_does_not_give_back_what_it_decoded(seeing, monkeypatch):
    engine = seeing("idefics3")
    asked = Asked(f"Look {IMAGE} and {IMAGE} this.", [picture(1), picture(2, (40, 90))])
    expected = engine.prompt(asked)
    processor = engine.runtime.prompts._processor
    see = processor.see
    monkeypatch.setattr(
        processor, "see", lambda *of: see(*of)._replace(text="not what it was made of")
    )
    assert engine.prompt(asked).tokens == expected.tokens
