"""What is said of a model while it loads: its backend's name, bytes, and seconds.

How far it is by now is a debug line several times a second, for a terminal that shows them all in
one place, and a line of the log now and then: large models take minutes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from backends.memory import written

logger = logging.getLogger(__name__)

SHOWN_EVERY = 0.2
"""Seconds between two debug lines."""
TOLD_EVERY = 5.0
"""Seconds between two lines of the log."""


class Loading:
    """Tells how the loading of one model goes. Used by the one thread that loads it."""

    def __init__(self, name: str, clock: Callable[[], float] = monotonic) -> None:
        """`name` is the backend's."""
        self._name = name
        self._clock = clock
        self._began = self._shown = self._told = clock()

    def fetch(self, model: str, nbytes: int) -> None:
        """`model` is fetched from the hub, `nbytes` in all; 0 where that is not known."""
        size = f", {written(nbytes)}" if nbytes else ""
        logger.info("%s: fetching %s from the hub%s", self._name, model, size)

    def begin(self, model: str, weights: int, planned: int) -> None:
        """`weights` bytes of `model` are read; `planned` is what it takes with all its caches."""
        self._began = self._shown = self._told = self._clock()
        size, whole = written(weights), written(planned)
        logger.info("%s: loading %s, %s (%s with its caches)", self._name, model, size, whole)

    def context(self, tokens: int, *, asked: int | None, made_for: int | None) -> None:
        """Tell where a request may have fewer `tokens` than was `asked` for, or the model has.

        `made_for` is how many those are, where that is known.
        """
        if asked is not None and made_for is not None and asked > made_for:
            logger.warning(
                "%s: `context: %d` is more than the %d tokens that the model was made for",
                *(self._name, asked, made_for),
            )
        wanted = min(asked or made_for or tokens, made_for or asked or tokens)
        if tokens < wanted:
            logger.log(
                logging.INFO if asked is None else logging.WARNING,
                "%s: a request may have %d tokens in place of %d: its KV cache holds no more; "
                "raise `kv_cache` or lower `max_batch`",
                *(self._name, tokens, wanted),
            )

    def reached(self, done: int, total: int) -> None:
        """`done` of `total` bytes are there."""
        now = self._clock()
        if now - self._told >= TOLD_EVERY:
            level, self._told = logging.INFO, now
        elif now - self._shown >= SHOWN_EVERY:
            level = logging.DEBUG
        else:
            return
        self._shown = now
        percent = 100 * done // total if total else 100
        logger.log(
            level, "%s: loading, %s of %s (%d %%) after %.0f s",
            *(self._name, written(done), written(total), percent, now - self._began),
        )  # fmt: skip
