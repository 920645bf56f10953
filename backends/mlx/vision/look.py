"""What has been seen in the images of a prompt, and where in it that goes. Engine thread only.

What an encoder has seen is never changed: rows that show the same picture share it.
"""

from __future__ import annotations

from typing import NamedTuple

import mlx.core as mx
import numpy as np
from numpy.typing import NDArray

from backends.mlx.vision.sight import Image, Sight


class Features(NamedTuple):
    """What the image encoder has seen in one image."""

    rows: mx.array
    """[tokens, features]: what goes in place of its tokens' embeddings."""
    deeper: tuple[mx.array, ...] = ()
    """The same for each of the first layers, behind which it is added (DeepStack, Qwen3-VL)."""

    @property
    def nbytes(self) -> int:
        """What they take."""
        return sum(int(array.nbytes) for array in (self.rows, *self.deeper))


class Part(NamedTuple):
    """What is seen of one image in a piece of a prompt."""

    places: NDArray[np.intp]
    """Counted from the beginning of the piece."""
    features: Features
    """As many as places."""


class Look:
    """One row's images, as far as they have to be read yet.

    What has been looked at is let go of: an image's arrays are far larger than what is seen in it.
    """

    __slots__ = ("_features", "_images", "_places", "sight")

    def __init__(self, sight: Sight, start: int) -> None:
        """Before `start`, the prompt is read already: images that end there are not needed."""
        self.sight = sight.outline()
        self._places = [places for places in sight.places if places[-1] >= start]
        read = len(sight.places) - len(self._places)
        self._images: list[Image | None] = list(sight.images[read:])
        self._features: list[Features | None] = [None] * len(self._places)

    @property
    def ready(self) -> bool:
        """Whether all that has to be read has been looked at."""
        return None not in self._features

    def next(self) -> tuple[int, Image]:
        """The first image that has not been looked at, and its number here."""
        number = self._features.index(None)
        image = self._images[number]
        assert image is not None, "it is kept until it has been looked at"
        return number, image

    def put(self, number: int, features: Features) -> None:
        """An image has been looked at."""
        self._features[number] = features
        self._images[number] = None

    def forget(self) -> None:
        """The prompt is read: only where its end stands is needed from here on."""
        self._features, self._images, self._places = [], [], []

    def within(self, start: int, end: int) -> list[Part]:
        """What is seen in the tokens of the prompt from `start` to `end`."""
        found: list[Part] = []
        for places, features in zip(self._places, self._features, strict=True):
            first, last = np.searchsorted(places, (start, end)).tolist()
            if first == last:
                continue
            assert features is not None, "what has to be read has been looked at"
            part = Features(
                features.rows[first:last], tuple(deep[first:last] for deep in features.deeper)
            )
            found.append(Part(places[first:last] - start, part))
        return found
