"""The images of one prompt, ready to be looked at: arrays and places. Pure.

A sight is made where prompts are made, in any thread, and is never changed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from backends.mlx.vision.positions import Positions


class Image(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """One image of a prompt."""

    digest: bytes
    """Of what was sent; the same for the same picture."""
    tokens: Sequence[int]
    """What stands for it in a prompt, with whatever the model puts around and between."""
    token: int
    """Which of them are filled in with what is seen."""
    inputs: Mapping[str, NDArray[Any]]
    """What the model's processor makes of the picture, by the names that the model gives them. By
    far the most of it, and needed until it has been looked at."""

    @property
    def size(self) -> int:
        """How many tokens are filled in."""
        return sum(token == self.token for token in self.tokens)

    @property
    def nbytes(self) -> int:
        """What its arrays take."""
        return sum(array.nbytes for array in self.inputs.values())


class Sight(msgspec.Struct, frozen=True, eq=False):
    """What there is to be seen in a prompt."""

    images: Sequence[Image]
    """In the order in which they stand in it."""
    places: Sequence[NDArray[np.intp]]
    """Where each one's tokens are that are filled in; ascending."""
    length: int
    """Of the prompt, in tokens."""
    positions: Positions | None = None
    """Of its tokens, where they do not just count on."""
    ahead: int = 0
    """How far each token behind the prompt stands ahead of its place, then."""

    def outline(self) -> Sight:
        """The same without the images' arrays: where they stand, and which they are."""
        bare = [msgspec.structs.replace(image, inputs={}) for image in self.images]
        return msgspec.structs.replace(self, images=bare)

    def key(self, tokens: Sequence[int]) -> list[int]:
        """The same `tokens`, with each image's own in place of those that all images share.

        For these, it is one number that is no token: the picture's digest. So two prompts have a
        beginning in common only as far as they show the same pictures.
        """
        key = list(tokens)
        for image, places in zip(self.images, self.places, strict=True):
            name = -1 - int.from_bytes(image.digest, "big")
            for place in places.tolist():
                if place >= len(key):
                    return key
                key[place] = name
        return key

    def segments(self, start: int) -> list[tuple[int, int]]:
        """The prompt from `start` on, cut so that what stands for an image is in one: its ends.

        Where an image is in several parts, each of them is.
        """
        cuts = {start, self.length}
        for places in self.places:
            for part in runs(places):
                cuts |= {int(part[0]), int(part[-1]) + 1}
        return list(pairwise(sorted(cut for cut in cuts if cut >= start)))


def runs(places: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """The parts of `places`, which ascend, that have no gap in them."""
    return np.split(places, np.flatnonzero(np.diff(places) != 1) + 1)


def place_images(tokens: Sequence[int], images: Sequence[Image]) -> list[NDArray[np.intp]]:
    """Where the images stand in a prompt that holds what stands for them, in order.

    Raises `ValueError` where it does not.
    """
    wanted = [image.size for image in images]
    everywhere = np.flatnonzero(np.asarray(tokens) == images[0].token)
    if len(everywhere) != sum(wanted):
        raise ValueError(f"{len(everywhere)} tokens for images that take {sum(wanted)}")
    return np.split(everywhere, np.cumsum(wanted)[:-1])
