"""What a request sees: one immutable snapshot, from when it is complete to its end."""

from __future__ import annotations

import asyncio

import msgspec

from gateway.config.structs import Config
from gateway.routing.replica import Replica
from gateway.routing.table import Table


class Snapshot(msgspec.Struct, frozen=True, kw_only=True, eq=False):
    """A configuration that is in force, and what was built from it."""

    config: Config
    table: Table
    replicas: tuple[Replica, ...]


class State:
    """Holds the snapshot of the moment, and knows which earlier ones are still in use."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self._users = {snapshot: 0}
        self._left = asyncio.Event()

    @property
    def live(self) -> tuple[Snapshot, ...]:
        """The snapshot of the moment, and those before it that may still be seen."""
        return tuple(self._users)

    def enter(self) -> Snapshot:
        """The snapshot of the moment, kept alive until whoever enters has to `leave` it."""
        self._users[self.snapshot] += 1
        return self.snapshot

    def leave(self, snapshot: Snapshot) -> None:
        """A snapshot that was entered is no longer seen."""
        self._users[snapshot] -= 1
        if snapshot is not self.snapshot:
            self._left.set()

    def swap(self, snapshot: Snapshot) -> Snapshot:
        """Put `snapshot` in force; returns the one before."""
        before, self.snapshot = self.snapshot, snapshot
        self._users[snapshot] = 0
        return before

    async def unused(self, snapshot: Snapshot) -> None:
        """Wait until no request sees `snapshot`, or one from before it, and forget it.

        What is part of it may have been in force for several snapshots already.
        """
        while self._used_until(snapshot):
            self._left.clear()
            await self._left.wait()
        del self._users[snapshot]

    def _used_until(self, snapshot: Snapshot) -> bool:
        for one, users in self._users.items():  # in the order in which they were in force
            if users:
                return True
            if one is snapshot:
                break
        return False
