"""How much of the memory the arrays of pictures take that have not been looked at yet. Pure.

Requests wait with what their pictures came to, in any number and from any thread; the sum of it has
a bound here. What is taken is given back when the one who holds it is gone.
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

    def take(self, holder: object, nbytes: int) -> bool:
        """Take `nbytes` for as long as `holder` lives; False where so much is not there."""
        with self._lock:
            if nbytes > self._free:
                return False
            self._free -= nbytes
        weakref.finalize(holder, self._give, nbytes).atexit = False
        return True

    def _give(self, nbytes: int) -> None:
        with self._lock:
            self._free += nbytes
