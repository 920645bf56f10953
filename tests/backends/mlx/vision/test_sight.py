"""What a prompt shows: keys for the prompt cache, and where it may be cut."""

import numpy as np
import pytest

from backends.mlx.vision.sight import Image, Sight, place_images, runs

SOFT = 9


def image(digest, tokens=(7, SOFT, SOFT, 8)):
    return Image(digest, tokens, SOFT, {"pixel_values": np.zeros((2, 3), np.float32)})


def sight(*images, tokens):
    return Sight(images, place_images(tokens, images), len(tokens))


def test_an_image_knows_its_tokens_and_its_bytes():
    assert image(b"a").size == 2
    assert image(b"a").nbytes == 24


def test_a_key_names_the_picture_and_keeps_the_text():
    tokens = [1, 7, SOFT, SOFT, 8, 2]
    key = sight(image(b"a"), tokens=tokens).key(tokens)
    assert key[:2] == [1, 7]
    assert key[4:] == [8, 2]
    assert key[2] == key[3] < 0, "no token is below zero"


def test_keys_part_where_the_pictures_do():
    tokens = [1, 7, SOFT, SOFT, 8, 7, SOFT, SOFT, 8, 2]
    one = sight(image(b"a"), image(b"b"), tokens=tokens).key(tokens)
    other = sight(image(b"a"), image(b"c"), tokens=tokens).key(tokens)
    again = sight(image(b"a"), image(b"b"), tokens=tokens).key(tokens)
    assert one == again
    assert [a == b for a, b in zip(one, other, strict=True)].index(False) == 6


def test_a_key_of_more_or_fewer_tokens_than_the_prompt():
    tokens = [1, 7, SOFT, SOFT, 8, 2]
    shown = sight(image(b"a"), tokens=tokens)
    assert shown.key([*tokens, 5, SOFT]) == [*shown.key(tokens), 5, SOFT], "an answer is no image"
    for length in range(len(tokens)):
        assert shown.key(tokens[:length]) == shown.key(tokens)[:length]


def test_the_tokens_of_an_image_may_be_apart():
    parts = image(b"a", (7, SOFT, 6, SOFT, SOFT, 8))
    (places,) = place_images([1, *parts.tokens, 2], [parts])
    assert places.tolist() == [2, 4, 5]


@pytest.mark.parametrize("tokens", [[1, 2], [SOFT], [SOFT] * 5])
def test_a_prompt_with_another_number_of_such_tokens(tokens):
    with pytest.raises(ValueError, match="tokens for images"):
        place_images(tokens, [image(b"a"), image(b"b")])


def test_a_prompt_is_cut_around_its_images():
    tokens = [1, 7, SOFT, SOFT, 8, SOFT, SOFT, 2]
    shown = sight(image(b"a"), image(b"b"), tokens=tokens)
    assert shown.segments(0) == [(0, 2), (2, 4), (4, 5), (5, 7), (7, 8)]
    assert shown.segments(4) == [(4, 5), (5, 7), (7, 8)]
    assert shown.segments(7) == [(7, 8)]
    (places,) = place_images([SOFT, 6, SOFT, SOFT, 2], [image(b"a", (SOFT, 6, SOFT, SOFT))])
    assert [part.tolist() for part in runs(places)] == [[0], [2, 3]]
    parts = Sight([image(b"a")], [places], 5)
    assert parts.segments(0) == [(0, 1), (1, 2), (2, 4), (4, 5)]
