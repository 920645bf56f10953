"""Any OpenAI-compatible URL as a backend; also what the particular HTTP engines build on.

Only the paths of `Endpoint` are ever asked for on behalf of a client, so an engine's other
paths (administration, files, adapters) cannot be reached through the gateway.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import ClassVar, TypeVar

import httpx
import msgspec

from backends.base import Backend, BackendError, Cause, Endpoint, Header, Reply, Request, Stage
from backends.base_url import Base, parse_base
from backends.capabilities import EVERYTHING, Capability
from backends.gauges import ANY, Gauges, demand_in
from backends.headers import HOP_BY_HOP
from backends.launch.doubt import look_closely
from backends.load import Demand
from backends.malformed import MALFORMED
from backends.metrics_page import total
from backends.options import HttpOptions
from backends.readiness import Condition, Readiness
from backends.secret import Secret
from backends.token_probe import TokenProbe
from backends.transport import Pool, Transport, check_head

Answer = TypeVar("Answer")

PROBE_TIMEOUT = 2.0
"""Seconds within which a replica must answer a probe."""

_WRITE_TIMEOUT = 30.0
"""Seconds that a replica may take no byte of a request's body."""

_MAX_PROBE_BODY = 1 << 20
"""Bytes of a probe's answer that are read; more is an error."""

_NOT_END_TO_END = HOP_BY_HOP | {b"content-encoding"}
"""Headers of an answer that are looked at here."""
_OWN = HOP_BY_HOP | {
    b"host",
    b"content-type",
    b"content-length",
    b"accept-encoding",
    b"authorization",
    b"expect",
}
"""Request headers that only the adapter sets, or nobody."""


class OpenAIHttpBackend(Backend):
    """Replicas of a server that speaks the OpenAI API over HTTP."""

    capabilities: frozenset[Capability] = EVERYTHING
    conditional: frozenset[Capability] = EVERYTHING
    probes_beside: int | None = 4
    """A server may have a thread for each connection: llama-server has five, or more with slots."""
    strips: ClassVar[frozenset[bytes]] = frozenset()
    """Request headers that mean something to this engine which no client may ask for."""
    gauges: ClassVar[Sequence[Gauges]] = ANY
    """What tells in its metrics how busy it is."""
    progress: ClassVar[frozenset[bytes]] = frozenset()
    """What in its metrics counts on for as long as it generates, together."""

    def __init__(
        self, name: str, options: HttpOptions, *, tls: ssl.SSLContext | None = None
    ) -> None:
        self.name = name
        self.addresses = options.urls
        self.capabilities = self.capabilities.difference(options.without)
        self.on_event: Callable[[], None] | None = None
        """Called for each piece of what was generated: for who runs the engine and watches it."""
        self._transport = Transport(tls=tls)
        self._dropped = _OWN | self.strips
        self._replicas = {
            address: _Replica(parse_base(address), options.api_key) for address in options.urls
        }
        bases = {replica.base for replica in self._replicas.values()}
        if len(bases) < len(options.urls):
            raise ValueError("a replica is given twice")

    async def start(self) -> None:
        """Nothing: connections are made when they are needed."""

    async def send(self, address: str, request: Request) -> Reply:
        """Ask the replica at `address`; see `Backend.send`."""
        replica = self._replicas[address]
        wait = request.connect_timeout
        # One level below httpx's types: building a Request, a Response and their Headers costs
        # a third of a whole small exchange.
        try:
            exchange = await self._transport.exchange(
                replica.pool(self._transport),
                replica.head(request, self._dropped),
                request.body,
                {"connect": wait, "pool": wait, "write": _WRITE_TIMEOUT},
            )
        except httpx.TransportError as error:
            raise _translate(address, error, Stage.SENT) from error
        try:
            body = _Body(address, exchange)
            if self.on_event is not None and _shows_progress(request, exchange.status):
                body = _WatchedBody(address, exchange, self.on_event)
            return Reply(exchange.status, _end_to_end(address, exchange.headers), body)
        except BackendError:
            exchange.close()
            raise

    def without_secrets(self, address: str, body: bytes) -> bytes:
        """See `Backend.without_secrets`."""
        return self._replicas[address].without_key(body)

    async def probe(self, address: str) -> Readiness:
        """Whether the replica lists its models, and if not, why."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                return await self._check(address)
        except TimeoutError:
            return Readiness(False, f"no answer within {PROBE_TIMEOUT:g} s", silent=True)
        except BackendError as error:
            silent = error.cause is Cause.CONNECT_TIMEOUT
            return Readiness(False, error.message, silent=silent)

    async def look_closely(
        self, address: str, model: str, within: float, *, busy: bool
    ) -> Readiness | None:
        """See `Backend.look_closely`. One that is busy is judged only if it tells its steps."""
        probe = TokenProbe(self, address, model)
        if busy and await probe.steps(within) is None:
            return None
        found = await look_closely(probe, within)
        if found.moves is None:
            return None
        return Readiness(found.moves, found.why_not, found.condition)

    async def demand(self, address: str) -> Demand | None:
        """See `Backend.demand`: by its metrics, where it has any."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                status, page = await self.get(address, "/metrics")
        except (BackendError, TimeoutError):
            return None
        return demand_in(page, self.gauges) if status == 200 else None

    async def tell(
        self, address: str, path: str, asked: object, answer: type[Answer]
    ) -> Answer | None:
        """What a replica says to a small question of the gateway's own; None where it does not."""
        try:
            async with asyncio.timeout(PROBE_TIMEOUT):
                status, body = await self.post(address, path, msgspec.json.encode(asked))
            return msgspec.json.decode(body, type=answer) if status == 200 else None
        except (BackendError, TimeoutError, *MALFORMED):
            return None

    async def stop(self) -> None:
        """Close every connection; replies still open are cut."""
        await self._transport.aclose()

    async def get(self, address: str, path: str) -> tuple[int, bytes]:
        """Status and body of a small answer to GET; `path` is below the replica's base URL.

        Raises `BackendError`. For probes: no client's request comes here.
        """
        return await self._exchange_small(address, "GET", path, b"")

    async def post(self, address: str, path: str, body: bytes) -> tuple[int, bytes]:
        """The same for a POST of JSON: the gateway's own word to the engine."""
        return await self._exchange_small(address, "POST", path, body)

    async def _exchange_small(
        self, address: str, method: str, path: str, content: bytes
    ) -> tuple[int, bytes]:
        replica = self._replicas[address]
        response = await self._ask(
            address,
            httpx.Request(
                method,
                replica.base.url + path,
                headers=[*replica.headers, (b"content-length", b"%d" % len(content))],
                stream=httpx.ByteStream(content),
                extensions=replica.extensions(PROBE_TIMEOUT),
            ),
        )
        stream, body = _Body(address, response.stream), bytearray()
        try:
            async for piece in stream:
                body += piece
                if len(body) > _MAX_PROBE_BODY:
                    raise BackendError(
                        Stage.STREAMING,
                        Cause.PROTOCOL,
                        f"{address} answers {path} with more than {_MAX_PROBE_BODY} bytes",
                    )
        finally:
            await stream.aclose()
        return response.status_code, bytes(body)

    async def steps(self, address: str) -> float | None:
        """A count that grows for as long as the engine generates; None where it tells none.

        Raises `BackendError`.
        """
        if not self.progress:
            return None
        status, page = await self.get(address, "/metrics")
        return total(page, self.progress) if status == 200 else None

    async def _check(self, address: str) -> Readiness:
        """The probe itself; engines override it. May raise `BackendError`."""
        status, _ = await self.get(address, "/v1/models")
        return self.judge(address, status)

    def judge(self, address: str, status: int) -> Readiness:
        """What the status of `/v1/models` says. Not every server has that path: a 404 is alive."""
        why = ""
        if status in (401, 403):
            why = self._replicas[address].refused(status, f"`backends.{self.name}.api_key`")
        elif 300 <= status < 400:
            why = f"it redirects (HTTP {status}), which is not followed: give the final URL"
        if why:
            return Readiness(False, f"misconfigured: {why}", Condition.MISCONFIGURED)
        if status >= 500:
            return Readiness(False, f"HTTP {status}")
        return Readiness(True)

    async def _ask(self, address: str, request: httpx.Request) -> httpx.Response:
        try:
            return await self._transport.handle_async_request(request)
        except httpx.TransportError as error:
            raise _translate(address, error, Stage.SENT) from error


class _Replica:
    """What is the same in all requests to a replica, made once."""

    def __init__(self, base: Base, api_key: Secret | None) -> None:
        self.base = base
        self._api_key = api_key
        self.headers: list[Header] = [
            (b"host", httpx.URL(base.url).netloc),
            (b"content-type", b"application/json"),
            (b"accept-encoding", b"identity"),
        ]
        if api_key is not None:
            self.headers.append((b"authorization", b"Bearer " + api_key.reveal().encode()))

        self._url = httpx.URL(base.url)
        self._pool: Pool | None = None
        fixed = b"".join(b"%s: %s\r\n" % header for header in self.headers)
        path = self._url.raw_path.rstrip(b"/") + b"/v1/"
        self._heads: Mapping[Endpoint, bytes] = {
            endpoint: b"POST %s%s HTTP/1.1\r\n%s" % (path, endpoint.encode(), fixed)
            for endpoint in Endpoint
        }

    def refused(self, status: int, key: str) -> str:
        """What a 401 or 403 means, and where to mend it: at `key` of the configuration."""
        if self._api_key is None:
            return f"the engine wants an api_key (HTTP {status}): set {key}"
        where = f"{key}, which is {self._api_key.origin}" if self._api_key.origin else key
        return f"the engine refuses the api_key (HTTP {status}): look at {where}"

    def without_key(self, text: bytes) -> bytes:
        """`text` with `***` wherever it has the key, as it is or as JSON writes it."""
        key = "" if self._api_key is None else self._api_key.reveal()
        for written in (msgspec.json.encode(key)[1:-1], key.encode()):
            text = text.replace(written, b"***") if written else text
        return text

    def pool(self, transport: Transport) -> Pool:
        """The connections to this replica."""
        if self._pool is None:
            self._pool = transport.pool(self._url, self.base.uds)
        return self._pool

    def head(self, request: Request, dropped: frozenset[bytes]) -> bytes:
        """The head of `request` on the wire. Raises `httpx.LocalProtocolError`."""
        passed = [b"%s: %s\r\n" % field for field in request.headers if field[0] not in dropped]
        head = b"%s%scontent-length: %d\r\n\r\n" % (
            self._heads[request.endpoint],
            b"".join(passed),
            len(request.body),
        )
        check_head(head, len(self.headers) + 1 + len(passed))
        return head

    def extensions(self, wait: float) -> dict[str, object]:
        """How to connect, within `wait` seconds."""
        timeout = {"connect": wait, "pool": wait, "write": _WRITE_TIMEOUT}
        return {"timeout": timeout, "uds": self.base.uds}


class _Body:
    """An answer's bytes, with the transport's errors in our terms."""

    __slots__ = ("_address", "_next", "_stream")

    def __init__(self, address: str, stream: httpx.SyncByteStream | httpx.AsyncByteStream) -> None:
        assert isinstance(stream, httpx.AsyncByteStream)
        self._address = address
        self._stream = stream
        self._next = aiter(stream).__anext__

    def __aiter__(self) -> AsyncIterator[bytes]:
        return self

    async def __anext__(self) -> bytes:
        try:
            return await self._next()
        except (httpx.TransportError, httpx.StreamError) as error:
            raise _translate(self._address, error, Stage.STREAMING) from error

    async def aclose(self) -> None:
        await self._stream.aclose()


class _WatchedBody(_Body):
    """The same, for an engine whose progress is watched; a comment in a stream is none."""

    __slots__ = ("_on_event",)

    def __init__(
        self,
        address: str,
        stream: httpx.SyncByteStream | httpx.AsyncByteStream,
        on_event: Callable[[], None],
    ) -> None:
        super().__init__(address, stream)
        self._on_event = on_event

    async def __anext__(self) -> bytes:
        piece = await super().__anext__()
        if not piece.startswith(b":"):
            self._on_event()
        return piece


def _shows_progress(request: Request, status: int) -> bool:
    """Whether the answer needs a generator that works: a server in front of a dead one refuses."""
    return status == 200 and request.endpoint is not Endpoint.COUNT_TOKENS


def _end_to_end(address: str, raw: list[Header]) -> list[Header]:
    """The headers of an answer that are meant for whoever asked (RFC 9110, 7.6.1)."""
    if _NOT_END_TO_END.isdisjoint([name for name, _ in raw]):
        return raw
    dropped: frozenset[bytes] | set[bytes] = HOP_BY_HOP
    for name, value in raw:
        if name == b"connection":
            dropped = dropped | {word.strip().lower() for word in value.split(b",")}
        elif name == b"content-encoding" and value.strip().lower() not in (b"", b"identity"):
            raise BackendError(
                Stage.SENT, Cause.PROTOCOL, f"{address} compressed its answer, unasked"
            )
    return [header for header in raw if header[0] not in dropped]


def _translate(address: str, error: Exception, stage: Stage) -> BackendError:
    """httpx's errors in our terms. `stage` holds where the error itself does not tell it."""
    cause = Cause.RESET
    match error:
        case httpx.ConnectTimeout() | httpx.PoolTimeout():
            stage, cause = Stage.CONNECT, Cause.CONNECT_TIMEOUT
        case httpx.ConnectError():
            tls = isinstance(error.__cause__, ssl.SSLError)
            stage, cause = Stage.CONNECT, Cause.TLS if tls else Cause.REFUSED
        case httpx.LocalProtocolError():
            stage, cause = Stage.CONNECT, Cause.PROTOCOL
        case httpx.RemoteProtocolError():
            cause = Cause.PROTOCOL
    reason = str(error) or type(error).__name__
    named = address.partition("://")[2].rstrip("/") or address
    return BackendError(stage, cause, reason if named in reason else f"{address}: {reason}")
