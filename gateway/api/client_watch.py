"""Notice that the client has gone, whatever the gateway is waiting for at that moment."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol, cast

from litestar.types import Scope

CONNECTION = "gateway.connection"
"""Where in the ASGI scope the server leaves the connection that a request came on."""


class ClientConnection(Protocol):
    """What `gateway/server/protocol.py` offers beyond ASGI.

    ASGI tells of a disconnect through `receive` alone, so somebody would have to wait there: a
    task more for every request, which costs a tenth of all that the gateway does for it.
    """

    def on_lost(self, callback: Callable[[], None] | None) -> None:
        """Call `callback` once, when the connection is lost; at once if it already is."""
        ...

    def abort(self) -> None:
        """Drop the connection, and with it whatever waits to be sent."""
        ...


class ClientWatch:
    """Cancels the task of a request as soon as its client leaves."""

    __slots__ = ("_connection", "_task", "gone")

    def __init__(self, scope: Scope, task: asyncio.Task[Any]) -> None:
        self.gone = False
        self._connection = cast(ClientConnection, scope[CONNECTION])  # type: ignore[literal-required]
        self._task = task

    def start(self) -> None:
        """To be called once the body is read: until then `receive` tells it."""
        self._connection.on_lost(self._lost)

    def stop(self) -> None:
        """To be called when there is nothing left to cancel. Idempotent."""
        self._connection.on_lost(None)

    def abort(self) -> None:
        """Give the client up: it does not take what is still to be said."""
        self._connection.abort()

    def _lost(self) -> None:
        self.gone = True
        self._task.cancel()
