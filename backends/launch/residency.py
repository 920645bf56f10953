"""What the owner of an engine and the owner of the memory know of each other."""

from __future__ import annotations

from typing import Protocol


class Tenant(Protocol):
    """An engine that holds memory, as the owner of the memory sees it."""

    id: str

    @property
    def resident(self) -> bool:
        """Whether it holds its memory, or is about to."""
        ...

    @property
    def busy(self) -> bool:
        """Whether it has a request running or pending: then it stays."""
        ...

    @property
    def starting(self) -> bool:
        """Whether it is being started: then it stays too, rather than to have begun in vain."""
        ...

    @property
    def last_used(self) -> float:
        """When it was last asked, in the event loop's time."""
        ...

    @property
    def memory(self) -> int:
        """Bytes it holds or will hold; 0 where nobody knows yet."""
        ...

    def wake(self) -> None:
        """Have it start: from now on it is resident."""
        ...

    def go_to_sleep(self) -> None:
        """Have it stop, which must not be busy: from now on no request reaches it."""
        ...

    async def until_asleep(self) -> None:
        """Until its memory is free, after `go_to_sleep`."""
        ...


class Residency(Protocol):
    """Decides which engines may be in memory."""

    def join(self, tenant: Tenant) -> None:
        """Know an engine, asleep or not."""
        ...

    def leave(self, tenant: Tenant) -> None:
        """Forget one that is gone for good."""
        ...

    def admit_at_once(self, tenant: Tenant) -> bool:
        """Wake it if there is room without sending anybody away."""
        ...

    async def admit(self, tenant: Tenant) -> None:
        """Make room and wake it. Raises `BackendError` where there is none in time."""
        ...

    def changed(self) -> None:
        """Somebody has become idle, or has gone."""
        ...
