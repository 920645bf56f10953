"""Threads that outlive the engines they serve: one is taken, used by one engine, and given back.

MLX gives every thread that computes a stream of its own, with native threads that it never ends,
neither with the thread nor by `clear_streams`. A reload would leave two of them behind each time.
So a thread whose engine has ended waits here for the next one.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from functools import cache
from queue import SimpleQueue

logger = logging.getLogger(__name__)


class OwnerThreads:
    """Starts a thread where no idle one is left; so there are as many as ever ran at once."""

    def __init__(self) -> None:
        self._idle: list[SimpleQueue[_Task]] = []
        self._lock = threading.Lock()

    def start(self, name: str, function: Callable[[], None]) -> threading.Event:
        """Call `function` in a thread of its own, called `name`; the event says that it is over."""
        task = _Task(name, function)
        with self._lock:
            inbox = self._idle.pop() if self._idle else None
        if inbox is None:
            inbox = SimpleQueue()
            # A daemon: an engine that hangs must not keep the process from ending.
            threading.Thread(target=self._serve, args=(inbox,), daemon=True).start()
        inbox.put(task)
        return task.over

    def _serve(self, inbox: SimpleQueue[_Task]) -> None:
        while True:
            task = inbox.get()
            thread = threading.current_thread()
            thread.name = task.name
            try:
                task.function()
            except BaseException:  # a thread has no caller to raise to, and goes on
                logger.exception("%s failed", task.name)
            thread.name = "idle-engine"
            over = task.over
            del task  # and with it what the function holds: a model
            with self._lock:
                self._idle.append(inbox)
            over.set()


class _Task:
    """What a thread shall do."""

    __slots__ = ("function", "name", "over")

    def __init__(self, name: str, function: Callable[[], None]) -> None:
        self.name = name
        self.function = function
        self.over = threading.Event()


@cache
def owner_threads() -> OwnerThreads:
    """The process's own: what they keep from leaking is the process's, too."""
    return OwnerThreads()
