"""Whose images are looked at when, and what is kept of what was seen."""

import mlx.core as mx
import numpy as np
import pytest

from backends.mlx.vision.look import Features, Look
from backends.mlx.vision.looking import Looking
from backends.mlx.vision.sight import Image, Sight

SOFT = 9


class Model:
    """Sees in each image its name; looks are counted."""

    def __init__(self):
        self.looked = []
        self.blind_to = b""

    def look_at(self, image):
        self.looked.append(image.digest)
        if image.digest == self.blind_to:
            raise RuntimeError("no memory")
        return Features(mx.zeros((image.size, 4)))  # 32 bytes for two tokens


def look(names, start=0):
    images = [Image(bytes([name]), (SOFT, SOFT), SOFT, {}) for name in names]
    places = [np.array([1 + 3 * at, 2 + 3 * at]) for at in range(len(names))]
    return Look(Sight(images, places, 1 + 3 * len(names)), start)


@pytest.fixture
def model():
    return Model()


@pytest.fixture
def faults():
    return []


def test_one_image_a_step_in_the_order_of_rows(model, faults):
    looking, first, second = Looking(model, 1000), look(b"ab"), look(b"c")
    looking.add(1, first, faults.append)
    looking.add(2, second, faults.append)
    states = []
    for _ in range(4):
        assert looking.step() is None
        states.append((first.ready, second.ready))
    assert states == [(False, False), (True, False), (True, True), (True, True)]
    assert model.looked == [b"a", b"b", b"c"]
    assert faults == []


def test_what_was_seen_serves_again_as_long_as_there_is_room(model, faults):
    looking = Looking(model, 64)
    for uid, names in enumerate((b"a", b"b", b"a", b"c", b"a", b"b")):
        looking.add(uid, look(names), faults.append)
        looking.step()
    assert model.looked == [b"a", b"b", b"c", b"b"], "b was not used for the longest time"


def test_what_is_too_large_is_not_kept(model, faults):
    looking = Looking(model, 10)
    for uid in range(2):
        looking.add(uid, look(b"a"), faults.append)
        looking.step()
    assert model.looked == [b"a", b"a"]


def test_a_look_that_fails_names_its_row_and_the_next_goes_on(model, faults):
    model.blind_to = b"b"
    looking, broken, fine = Looking(model, 1000), look(b"ab"), look(b"c")
    looking.add(1, broken, faults.append)
    looking.add(2, fine, faults.append)
    assert [looking.step() for _ in range(3)] == [None, 1, None]
    assert "no memory" in str(faults[0])
    assert (broken.ready, fine.ready) == (False, True)


def test_a_row_that_left_is_not_looked_at(model, faults):
    looking = Looking(model, 1000)
    looking.add(1, look(b"a"), faults.append)
    looking.remove(1)
    looking.remove(1)
    assert looking.step() is None
    looking.add(2, look(b"a"), faults.append)
    looking.clear()
    looking.step()
    assert model.looked == []


def test_only_images_that_are_not_read_yet_are_needed(model, faults):
    looking, half = Looking(model, 1000), look(b"abc", start=5)
    looking.add(1, half, faults.append)
    while not half.ready:
        looking.step()
    assert model.looked == [b"b", b"c"], "the second is cut, so what is left of it is needed"
    assert look(b"abc", start=9).ready
    (part,) = half.within(5, 7)
    assert (part.places.tolist(), part.features.rows.shape) == ([0], (1, 4))
    half.forget()
    assert half.ready
    assert half.within(0, 100) == []
