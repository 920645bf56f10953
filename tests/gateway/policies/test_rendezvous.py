from __future__ import annotations

from hashlib import blake2b
from math import isfinite

import pytest

from gateway.policies.rendezvous import distance


def nearest(weights, key):
    places = (
        (distance(blake2b(f"{place}/{key}".encode(), digest_size=8).digest(), weight), place)
        for place, weight in weights.items()
    )
    return min(places)[1]


@pytest.mark.parametrize("digest", [b"\0" * 8, b"\xff" * 8])
def test_no_hash_is_at_no_distance_or_out_of_reach(digest):
    assert isfinite(distance(digest, 1.0))
    assert distance(digest, 1.0) > 0


def test_a_place_is_the_nearest_as_often_as_it_weighs():
    near = [nearest({"a": 2.0, "b": 1.0, "c": 1.0}, key) for key in range(8000)]
    assert 3800 < near.count("a") < 4200
    assert 1850 < near.count("b") < 2150


def test_a_place_that_gets_heavier_takes_keys_and_moves_no_other():
    before, after = {"a": 1.0, "b": 1.0, "c": 1.0}, {"a": 2.0, "b": 1.0, "c": 1.0}
    moved = {
        (nearest(before, key), nearest(after, key))
        for key in range(2000)
        if nearest(before, key) != nearest(after, key)
    }
    assert moved == {("b", "a"), ("c", "a")}
