"""What an engine needs that runs already, or that the gateway starts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Self

import msgspec
from msgspec import Meta

from backends.base import Adapter, Backend
from backends.options.adapters import AdapterName, AdapterPath, loras
from backends.options.base import Options
from backends.options.http import HttpOptions
from backends.options.replicas import Replicas, WeightedReplica
from backends.secret import Secret
from backends.units import Size, Timeout

if TYPE_CHECKING:
    from backends.launch.recipes import Recipe
    from backends.openai_http import OpenAIHttpBackend

EnvironmentName = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z_][A-Za-z0-9_]*$",
        description="the name of an environment variable",
    ),
]


class Launch(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """An engine that the gateway starts itself, watches, and stops."""

    model: Annotated[str, Meta(min_length=1)]
    """What to load: a path (relative to the file that names it), or a hub id such as `org/name`."""
    args: tuple[str, ...] = ()
    """Further arguments of the engine; they win over the gateway's own."""
    command: Annotated[str, Meta(min_length=1)] | None = None
    """The engine's executable: a path, or a name that is looked for on PATH."""
    env: dict[EnvironmentName, Secret] = {}
    """Environment variables for the engine, beside the gateway's own; shown nowhere."""
    memory: Size | None = None
    """What one replica takes of `memory_limit`; measured where it is not given."""
    start_timeout: Timeout = Timeout(300)
    """How long it may take from its start to its first token."""
    stop_timeout: Timeout = Timeout(30)
    """How long it may take to end when told to, before it is killed."""
    stall_timeout: Timeout = Timeout(60)
    """How long it may have requests and make no token, before it is suspected to hang."""
    idle_unload: Timeout | None = None
    """Stop it when nothing was asked for that long; the next request starts it again."""
    preload: bool = True
    """Start it with the gateway; else the first request does."""


class LaunchableOptions(HttpOptions, frozen=True, kw_only=True):
    """What an engine needs that runs already, or that the gateway starts."""

    replicas: Annotated[int, Meta(ge=1, le=64)] | Replicas = 1
    """Base URLs, one per replica, or `{url: …, weight: 2}`; with `launch`, how many to start."""
    launch: Launch | None = None
    """How to start it, where the gateway is to do that."""
    adapters: dict[AdapterName, AdapterPath] = {}  # noqa: RUF012 — a struct makes its own of it
    """LoRA adapters: what they are called here, and where the engine finds each of them."""

    @property
    def loras(self) -> frozenset[Adapter]:
        """See `Options.loras`."""
        return loras(self.adapters)

    def engine(self) -> Options:
        """See `Options.engine`. One that is started here is started for adapters, or without."""
        with_any = self.launch is not None and self.adapters
        return msgspec.structs.replace(
            self._unweighted(), adapters={"any": "-"} if with_any else {}
        )

    def _unweighted(self) -> Self:
        """How much goes where is no business of the engines."""
        replicas = self.replicas if isinstance(self.replicas, int) else self.urls
        return msgspec.structs.replace(self._unplaced(), replicas=replicas)

    @property
    def listed(self) -> tuple[str | WeightedReplica, ...]:
        """See `HttpOptions.listed`."""
        return () if isinstance(self.replicas, int) else self.replicas

    @property
    def count(self) -> int:
        """How many replicas there are."""
        return self.replicas if isinstance(self.replicas, int) else len(self.replicas)

    def open(self, name: str) -> Backend:
        """Build the adapter. Raises `ValueError` for a replica that is no base URL."""
        if self.launch is None:
            return self.connect(name)
        from backends.launch.backend import LaunchedBackend  # noqa: PLC0415

        return LaunchedBackend(name, self, self.launch)

    def connect(self, name: str) -> OpenAIHttpBackend:
        """Build the adapter for engines that run already."""
        raise NotImplementedError

    def recipe(self) -> Recipe:
        """How such an engine is run."""
        raise NotImplementedError
