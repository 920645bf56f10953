"""How much of the memory the arrays of pictures take that have not been looked at yet. Pure.

Requests wait with what their pictures came to, in any number and from any thread; the sum of it has
a bound here. What is taken is given back when the one who holds it is gone, each for itself.
"""

from __future__ import annotations

import threading
import weakref


class Room:
    """So many bytes. May be used from several threads."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        """In all."""
        self._free = nbytes
        # A holder may be collected while a thread is in here.
        self._lock = threading.RLock()

    @property
    def free(self) -> int:
        """What is left now."""
        return self._free

    def take(self, *holders: tuple[object, int]) -> bool:
        """Take so many bytes for each for as long as it lives; none where all are not there."""
        needed = sum(nbytes for _, nbytes in holders)
        with self._lock:
            if needed > self._free:
                return False
            self._free -= needed
        for holder, nbytes in holders:
            weakref.finalize(holder, self._give, nbytes).atexit = False
        return True

    def _give(self, nbytes: int) -> None:
        with self._lock:
            self._free += nbytes
