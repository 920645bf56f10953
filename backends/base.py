"""What every engine adapter keeps to: a `Request` goes in, a `Reply` of bytes comes out.

Rules of this file:

- An adapter translates foreign errors where they enter: callers see `BackendError` (or its
  subclass `RequestRefused`) and nothing else, apart from `asyncio.CancelledError`.
- An error names the `Stage` it happened in, because that alone decides whether asking
  somewhere else is safe.
- Closing a `Reply` (or cancelling `send`) frees the engine's resources at once: it is the
  only way work is cancelled, for HTTP engines and in-process ones alike.
- Streams are server-sent-event bytes in the dialect of the endpoint, whatever the engine.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from backends.capabilities import Capability
from backends.load import Demand, Load
from backends.readiness import Readiness

Header = tuple[bytes, bytes]
"""One header field: lower-case name and value, both as they stand on the wire."""


class Endpoint(StrEnum):
    """An inference endpoint; the value is its path below `/v1/`."""

    CHAT = "chat/completions"
    COMPLETIONS = "completions"
    EMBEDDINGS = "embeddings"
    RESPONSES = "responses"
    MESSAGES = "messages"
    COUNT_TOKENS = "messages/count_tokens"
    RERANK = "rerank"


CAPABILITY_OF: Mapping[Endpoint, Capability] = {
    Endpoint.CHAT: Capability.CHAT,
    Endpoint.COMPLETIONS: Capability.COMPLETIONS,
    Endpoint.EMBEDDINGS: Capability.EMBEDDINGS,
    Endpoint.RESPONSES: Capability.RESPONSES,
    Endpoint.MESSAGES: Capability.MESSAGES,
    Endpoint.COUNT_TOKENS: Capability.COUNT_TOKENS,
    Endpoint.RERANK: Capability.RERANK,
}
"""What an engine must be capable of to serve an endpoint."""


class Stage(StrEnum):
    """How far an attempt had come when it failed."""

    CONNECT = "connect"
    """Nothing reached the engine."""
    SENT = "sent"
    """The request may have reached the engine; no byte of the answer has come back."""
    STREAMING = "streaming"
    """The answer had begun."""


class Cause(StrEnum):
    """Why an attempt failed; also the value of metric labels and of `error.type`."""

    REFUSED = "connect_error"
    CONNECT_TIMEOUT = "connect_timeout"
    RESET = "reset"
    PROTOCOL = "protocol_error"
    TLS = "tls_error"
    ENGINE = "engine_error"
    LOADING = "loading"
    """It is on its way, and says so."""
    UNSUPPORTED = "unsupported"


class BackendError(Exception):
    """An attempt failed inside or on the way to an engine.

    `message` is written for the operator and may be shown to clients: it holds no secret.
    `retry_after`: in how many seconds asking again may help, where the adapter knows.
    """

    def __init__(
        self, stage: Stage, cause: Cause, message: str, *, retry_after: float | None = None
    ) -> None:
        super().__init__(message)
        self.stage = stage
        self.cause = cause
        self.message = message
        self.retry_after = retry_after


class RequestRefused(BackendError):
    """An engine says no to a request, and an adapter knows it: the client's own fault.

    Never retried, apart from 429, with which a full engine says no.

    `status` is the HTTP status (4xx or 501), `param` the field at fault, `code` OpenAI's
    machine-readable code, if there is one; `retry_after` comes with 429.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        param: str | None = None,
        code: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(Stage.SENT, Cause.UNSUPPORTED, message, retry_after=retry_after)
        self.status = status
        self.param = param
        self.code = code


class Adapter(msgspec.Struct, frozen=True):
    """A LoRA adapter. One with another path is another one, whatever its name."""

    name: str
    """What routing.yaml calls it."""
    path: str
    """Where the engine finds it."""


class Request(msgspec.Struct, frozen=True, kw_only=True):
    """One request as an engine shall see it."""

    endpoint: Endpoint
    body: bytes
    """JSON, UTF-8; `model` is already the engine's own name for the model."""
    headers: Sequence[Header] = ()
    """End-to-end headers the engine may see; never the client's credentials."""
    stream: bool = False
    """Whether the body asks for server-sent events."""
    connect_timeout: float = 5.0
    """Seconds to establish a connection, where one is needed."""
    adapter: Adapter | None = None
    """The LoRA adapter to answer with; None asks for the model as it is."""
    on_progress: Callable[[bytes], None] | None = None
    """To be given the events of a stream that becomes the one answer, whole ones, as they come: see
    `Backend.shows_progress`."""


class ByteStream(Protocol):
    """The body of a reply, in the pieces in which it arrived."""

    def __aiter__(self) -> AsyncIterator[bytes]: ...

    async def __anext__(self) -> bytes:
        """The next non-empty piece. Raises `BackendError` with `Stage.STREAMING`."""
        ...

    async def aclose(self) -> None:
        """Stop the engine's work on this reply, at once. Idempotent."""
        ...


class Reply(msgspec.Struct, frozen=True):
    """What an attempt gives back. Whoever holds it must close its `body`."""

    status: int
    headers: Sequence[Header]
    body: ByteStream


class Supervised(msgspec.Struct, frozen=True):
    """How a child process that the gateway runs is doing."""

    state: str
    """One of `backends.launch.phase.Phase`."""
    restarts: int
    """How often it has been started again."""
    memory: int | None = None
    """Bytes of memory it and what it has started hold, as last measured."""


class Backend(ABC):
    """One kind of engine, opened: its replicas are told apart by their address.

    Made by `Options.open`; owned by whoever called that, who must `stop` it.
    """

    provider: str = "openai"
    """What kind of engine it is, as `gen_ai.provider.name` tells it."""
    capabilities: frozenset[Capability]
    """What it can be asked for at most: what is not in here, it is never asked for."""
    conditional: frozenset[Capability] = frozenset()
    """Of `capabilities`, those that depend on its model, or on how the engine was started."""
    why_not: Mapping[Capability, str] = {}
    """Why it cannot do what its kind can, where that has turned out."""
    counts_chats: bool = False
    """Whether it tells the tokens of a chat's body at `COUNT_TOKENS`, as `{"input_tokens": n}`."""
    takes_priority: bool = False
    """Whether it serves what waits there by the body's `priority`: vLLM's, lower first."""
    shows_progress: frozenset[Endpoint] = frozenset()
    """Where it makes an answer in one piece of a stream, and calls the request's `on_progress` with
    that endpoint's events."""
    probes_beside: int | None = None
    """How many requests a replica may have and have somebody left to answer a probe; None where
    that does not depend on them."""
    restarts: bool = False
    """Whether an engine of its that ends is started again, and so worth waiting for."""
    loads_here: bool = False
    """Its start takes memory of this process, so no two such start at a time."""
    addresses: tuple[str, ...]
    """One per replica: a base URL, or a name for an in-process engine. Distinct."""

    @property
    def endpoints(self) -> frozenset[Endpoint]:
        """The endpoints that this engine itself serves."""
        return frozenset(one for one in Endpoint if CAPABILITY_OF[one] in self.capabilities)

    @abstractmethod
    async def start(self) -> None:
        """Load or connect what must be there before `send`; raises `BackendError`."""

    @abstractmethod
    async def send(self, address: str, request: Request) -> Reply:
        """Ask the replica at `address`; returns when the reply's status is known.

        Raises `BackendError`; cancelling it cancels the engine's work.
        """

    @abstractmethod
    async def probe(self, address: str) -> Readiness:
        """Ask the replica whether it may take traffic. Never raises `BackendError`."""

    def load(self, address: str) -> Load | None:  # noqa: ARG002 — an engine elsewhere tells it itself
        """How busy the replica is, where this process knows: for an in-process engine."""
        return None

    async def demand(self, address: str) -> Demand | None:
        """Ask the replica what is asked of it now. None where it does not say, which is unknown
        and not nothing. Never raises `BackendError`.
        """
        load = self.load(address)
        return None if load is None else Demand.of(load)

    def without_secrets(self, address: str, body: bytes) -> bytes:  # noqa: ARG002 — most hold none
        """`body`, of an error, without what only the replica and the gateway know."""
        return body

    async def count_text(self, address: str, text: str) -> int | None:  # noqa: ARG002 — some cannot
        """How many tokens `text` is, by itself; None where that cannot be told.

        Never raises `BackendError`.
        """
        return None

    async def look_closely(
        self,
        address: str,  # noqa: ARG002
        model: str,  # noqa: ARG002
        within: float,  # noqa: ARG002
        *,
        busy: bool,  # noqa: ARG002
    ) -> Readiness | None:
        """Have the replica make a token of `model`, its own name for it, in `within` seconds, or
        twice that. `busy`: it has requests, for which this one may have to wait.

        None where that cannot be told, or is watched otherwise. Never raises `BackendError`.
        """
        return None

    def readying(self, address: str) -> Awaitable[None] | None:  # noqa: ARG002 — most are there
        """What to wait for before `send`, for an engine that sleeps or starts; else None.

        The wait raises `BackendError` where it comes to nothing.
        """
        return None

    def supervised(self, address: str) -> Supervised | None:  # noqa: ARG002 — nobody's child
        """How the replica's child process is doing, where the gateway runs it in one."""
        return None

    def has_adapter(self, address: str, adapter: Adapter) -> bool:  # noqa: ARG002 — most have none
        """Whether the replica can answer with `adapter`, as far as is known. No I/O."""
        return False

    def model_of(self, address: str, adapter: Adapter) -> str | None:  # noqa: ARG002
        """What the replica takes as `model` for `adapter`; None where that stays the model's."""
        return None

    async def find_adapters(
        self,
        address: str,  # noqa: ARG002
        known: Collection[Adapter],  # noqa: ARG002
    ) -> frozenset[Adapter]:
        """Ask the replica which of `known` it has; `has_adapter` goes by that from now on.

        Raises `BackendError`.
        """
        return frozenset()

    async def load_adapter(self, address: str, adapter: Adapter) -> None:  # noqa: ARG002
        """Have the replica load `adapter` beside what it has.

        Raises `BackendError`, which does not name the replica: what several say can be told once.
        """
        raise BackendError(
            Stage.CONNECT,
            Cause.UNSUPPORTED,
            f"this kind of engine cannot load the adapter {adapter.name!r}",
        )

    async def unload_adapter(self, address: str, adapter: Adapter) -> None:  # noqa: B027 — no duty
        """Have the replica drop `adapter`, which no request uses. Raises `BackendError`."""

    @abstractmethod
    async def stop(self) -> None:
        """Free everything. Replies still open are cut."""
