"""Whose images are looked at next, one at a time between two steps. Engine thread only.

So a long look holds up the others' next token for one image, never for all of a conversation. One
that fails concerns its own row alone.
"""

from __future__ import annotations

import logging
from collections import OrderedDict
from collections.abc import Callable

from backends.mlx.vision.look import Features, Look
from backends.mlx.vision.model import SeeingModel
from backends.mlx.vision.sight import Image

logger = logging.getLogger(__name__)


class Looking:
    """The rows that wait for their images, and what has been seen last.

    That is at most `max_bytes`; what has not been used for the longest time goes first.
    """

    def __init__(self, model: SeeingModel, max_bytes: int) -> None:
        self._model = model
        self._max_bytes = max_bytes
        self._nbytes = 0
        self._seen: OrderedDict[bytes, Features] = OrderedDict()
        self._waiting: dict[int, tuple[Look, Callable[[Exception], None]]] = {}

    def add(self, uid: int, look: Look, on_fault: Callable[[Exception], None]) -> None:
        """Have the images of a row looked at; `on_fault` hears why one cannot be."""
        if not look.ready:
            self._waiting[uid] = (look, on_fault)

    def remove(self, uid: int) -> None:
        """A row has left."""
        self._waiting.pop(uid, None)

    def clear(self) -> None:
        """All rows have left, and nothing is kept: it may have been the memory."""
        self._waiting.clear()
        self._seen.clear()
        self._nbytes = 0

    def step(self) -> int | None:
        """Look at one image; gives the row that never can be read because it failed."""
        if not self._waiting:
            return None
        uid = next(iter(self._waiting))
        look, on_fault = self._waiting[uid]
        why = self._look(look)
        if why is not None or look.ready:
            del self._waiting[uid]
        if why is None:
            return None
        on_fault(RuntimeError(f"an image could not be looked at: {why}"))
        return uid

    def _look(self, look: Look) -> str | None:
        """Look at its next image; gives why that failed.

        Not the exception: whoever keeps that keeps the image, too, with the calls it went through.
        """
        number, image = look.next()
        try:
            look.put(number, self._see(image))
        except Exception as error:  # from mlx-vlm's model of that kind, or the memory
            logger.warning("an image could not be looked at", exc_info=error)
            return str(error) or type(error).__name__
        return None

    def _see(self, image: Image) -> Features:
        if (found := self._seen.get(image.digest)) is not None:
            self._seen.move_to_end(image.digest)
            return found
        features = self._model.look_at(image)
        if features.nbytes <= self._max_bytes:
            self._seen[image.digest] = features
            self._nbytes += features.nbytes
            while self._nbytes > self._max_bytes:
                self._nbytes -= self._seen.popitem(last=False)[1].nbytes
        return features
