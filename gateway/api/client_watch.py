"""Notice that the client has gone, whatever the gateway is waiting for at that moment."""

from __future__ import annotations

import asyncio
from typing import Any

from litestar.types import Receive


class ClientWatch:
    """Cancels the task that made it as soon as its client leaves.

    ASGI tells of a disconnect through `receive`, so somebody has to wait there. `start` it once
    the body is read; `stop` it before the response is complete, which ASGI reports the same way.
    """

    __slots__ = ("_receive", "_task", "_watcher", "gone")

    def __init__(self, receive: Receive, task: asyncio.Task[Any]) -> None:
        self.gone = False
        self._receive = receive
        self._task = task
        self._watcher: asyncio.Task[None] | None = None

    def start(self) -> None:
        self._watcher = asyncio.create_task(self._wait_for_disconnect())

    def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            self._watcher = None

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self.gone = True
        self._task.cancel()
