"""What routing.yaml can say, as typed, frozen structs. No parsing, no I/O, no defaults elsewhere.

Every field's docstring is what `gateway schema` shows in an editor.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from backends.options import BackendOptions
from backends.units import Duration, Size, Timeout
from gateway.config.key_hash import KeyHash

Name = Annotated[str, Meta(min_length=1, max_length=256)]
"""A reference to something named elsewhere, or an engine's own name for a model."""
Label = Annotated[
    str,
    Meta(
        pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$",
        description="a name of at most 64 letters, digits, `_`, `.` and `-`",
    ),
]
"""A name that appears in response headers and metrics."""
ModelName = Annotated[
    str,
    Meta(
        pattern=r"^[^\s\x00-\x1f\x7f?\[\]]{1,256}$",
        description="a name of at most 256 characters without spaces; `*` is the only wildcard",
    ),
]
"""A name that clients ask for; `*` stands for any characters."""
Weight = Annotated[float, Meta(ge=0, le=1_000_000)]
Host = Annotated[
    str, Meta(pattern=r"^[A-Za-z0-9_.:%-]{1,255}$", description="a host name or an IP address")
]
Url = Annotated[
    str, Meta(pattern=r"^https?://[^\s/@]+(/\S*)?$", description="a URL such as http://host:4318")
]


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all: immutable, keyword-only, unknown keys refused."""


class Limits(Struct, frozen=True, kw_only=True):
    """What a client may send; beyond it a 4xx that says so."""

    body: Size = Size(32 << 20)
    """The largest request body."""
    headers: Size = Size(32 << 10)
    """The largest request head: request line and all headers together."""
    header_timeout: Timeout = Timeout(10)
    """How long a client may take to send a request's head."""
    body_timeout: Timeout = Timeout(60)
    """How long a client may be silent while it sends a body, and how long the whole body may take
    beside a second for each 16 KiB of it."""
    write_timeout: Timeout = Timeout(60)
    """How long a client may take nothing of an answer that waits for it."""


class Drain(Struct, frozen=True, kw_only=True):
    """What SIGTERM does."""

    grace: Duration = Duration(5)
    """How long `/ready` says no, while requests are still taken, so that load balancers notice."""
    timeout: Duration = Duration(600)
    """How long running requests may go on after that."""


class Server(Struct, frozen=True, kw_only=True):
    """Where and how the gateway listens."""

    host: Host = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8088
    """The port to listen on; 0 takes a free one."""
    insecure: bool = False
    """Listen beyond loopback although no `keys` are set."""
    keep_alive: Timeout = Timeout(75)
    """How long an idle client connection stays open."""
    limits: Limits = Limits()
    """What a client may send."""
    drain: Drain = Drain()
    """What SIGTERM does."""


class Timeouts(Struct, frozen=True, kw_only=True):
    """How long each part of an answer may take."""

    connect: Timeout = Timeout(2)
    """To establish a connection to a replica."""
    first_token: Timeout = Timeout(60)
    """To the first content of a stream. Where the engine is asked for a stream anyway, as
    llama-server is, to that of an answer in one piece as well."""
    idle: Timeout = Timeout(60)
    """Between two events of a stream. An answer in one piece may take longer, unless nothing is
    heard of its replica for so long, and its health checks fail."""
    total: Timeout = Timeout(600)
    """For the whole request, all attempts together."""


class Retry(Struct, frozen=True, kw_only=True):
    """How often one request may be tried on one route, the first try included."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    """Tries in all; 1 means no retry."""
    backoff: Duration = Duration(0.025)
    """The base of the jittered, doubling wait between tries on the same replica."""
    max_backoff: Duration = Duration(2)
    """The longest wait between two tries, also where an engine's `Retry-After` asks for more."""


class RetryBudget(Struct, frozen=True, kw_only=True):
    """How many retries all requests together may cause, over a sliding window."""

    percent: Annotated[float, Meta(ge=0, le=100)] = 20
    """Retries as a share of the requests in the window."""
    min_per_second: Annotated[float, Meta(ge=0)] = 10
    """Retries per second that are always allowed."""
    window: Timeout = Timeout(10)
    """The length of the window."""


class Failover(Struct, frozen=True, kw_only=True):
    """What becomes of a stream whose replica fails after its answer has begun."""

    attempts: Annotated[int, Meta(ge=0, le=10)] = 3
    """How often another replica may be asked to go on with one answer; 0 leaves it broken off."""


class Queue(Struct, frozen=True, kw_only=True):
    """Requests that wait for one of a model's places."""

    size: Annotated[int, Meta(ge=0, le=100_000)] = 256
    """How many may wait."""
    timeout: Timeout = Timeout(30)
    """How long each of them may."""


class Hedge(Struct, frozen=True, kw_only=True):
    """A second attempt on another replica, where the first content of a stream is late."""

    after: Annotated[
        str,
        Meta(
            pattern=r"^(p[5-9][0-9]|[0-9]+(\.[0-9]+)?(ms|s))$",
            description="a percentile of the route's times to the first token, from p50 to p99, or "
            "a duration in ms or s, such as 300ms",
        ),
    ] = "p95"
    """When it is late; a percentile is learnt from the route's own answers."""
    max_percent: Annotated[float, Meta(ge=0, le=100)] = 5
    """Second attempts as a share of the route's requests."""


class LatencyBudget(Struct, frozen=True, kw_only=True):
    """What an answer may take, by what is known of its engines; what would be late is refused."""

    ttft: Timeout | None = None
    """Until the first token of a stream."""
    total: Timeout | None = None
    """Until the last token."""


class Fallback(Struct, frozen=True, kw_only=True):
    """Models to try, in order, by why this one cannot answer."""

    unavailable: tuple[Name, ...] = ()
    """It is down, too slow, broken, or cannot do what is asked."""
    overloaded: tuple[Name, ...] = ()
    """It has too much to do."""
    context: tuple[Name, ...] = ()
    """The request is too long for it: models with a longer window."""


class Variant(Struct, frozen=True, kw_only=True):
    """One arm of a route."""

    backend: Name
    """The name of an entry under `backends`."""
    weight: Weight = 100
    """Its share of the traffic, relative to the other variants."""
    model: Name | None = None
    """What the backend calls the model, where that differs from the backend's own `model`."""
    adapter: Name | None = None
    """One of the backend's LoRA `adapters`, which then answers."""
    checkpoint: Label | None = None
    """What its weights are called. Variants with the same may go on with each other's answers, here
    and among the fallback models: they must say the same."""


class When(Struct, frozen=True, kw_only=True):
    """A condition on a request; all parts given must hold."""

    headers: dict[str, str] = {}
    """Header names and the value each must have; `*` stands for any characters."""
    keys: tuple[Name, ...] = ()
    """Names under `keys`: the request must come with one of them."""


class Rule(Struct, frozen=True, kw_only=True):
    """Requests that match go to one variant, whatever the weights."""

    when: When
    """What a request must have."""
    variant: Name
    """The name of one of the route's variants."""


class Model(Struct, frozen=True, kw_only=True):
    """One name that clients may ask for, and where it goes."""

    backend: Name | None = None
    """Short for a single variant, called `default`."""
    model: Name | None = None
    """With `backend`: what the backend calls the model."""
    adapter: Name | None = None
    """With `backend`: one of its LoRA `adapters`, which then answers."""
    checkpoint: Label | None = None
    """With `backend`: what its weights are called; see `checkpoint` of a variant."""
    variants: dict[Label, Variant] = {}
    """Arms of the route, by name."""
    aliases: tuple[ModelName, ...] = ()
    """Other names for this model; globs allowed."""
    rules: tuple[Rule, ...] = ()
    """Checked in order before the weights; the first that matches decides."""
    sticky: Annotated[
        str,
        Meta(
            pattern=r"^(user|key|conversation|none|header:[A-Za-z0-9_-]+)$",
            description="`user`, `key`, `conversation`, `none` or `header:NAME`",
        ),
    ] = "conversation"
    """What keeps a client on one variant; where a request lacks it, the conversation does."""
    balance: Literal[
        "prefix_affinity", "least_outstanding", "p2c_ewma", "session", "round_robin", "random"
    ] = "prefix_affinity"
    """How a replica of the chosen variant is picked, where it has several."""
    retry: Retry = Retry()
    """How often a request may be tried."""
    failover: Failover = Failover()
    """What becomes of a stream whose replica fails after its answer has begun."""
    budget: LatencyBudget | None = None
    """How long an answer may take, as predicted; without it nothing is predicted."""
    concurrency: Annotated[int, Meta(ge=1, le=100_000)] | None = None
    """How many of its requests engines may have at a time; without it there is no bound."""
    queue: Queue = Queue()
    """With `concurrency`: who waits for a place."""
    hedge: Hedge | None = None
    """A second attempt where the first content of a stream is late; without it there is none."""
    timeouts: Timeouts = Timeouts()
    """How long each part of an answer may take."""
    fallback: tuple[Name, ...] | Fallback = ()
    """Models to try, in order, when this one cannot answer; or a list for each cause. A plain list
    is for all causes but a request that is too long."""
    public: bool = True
    """Whether `/v1/models` lists it."""

    def fallbacks(self) -> Fallback:
        """The models to try by cause, also where a list stands for several."""
        if isinstance(self.fallback, Fallback):
            return self.fallback
        return Fallback(unavailable=self.fallback, overloaded=self.fallback)

    def arms(self) -> dict[str, Variant]:
        """The variants, also where `backend` is the short form for a single one."""
        if self.backend is None:
            return self.variants
        variant = Variant(
            backend=self.backend,
            model=self.model,
            adapter=self.adapter,
            checkpoint=self.checkpoint,
        )
        return {"default": variant}


class Key(Struct, frozen=True, kw_only=True):
    """One API key."""

    value: KeyHash
    """The secret, from the environment: `${ALICE_KEY}`. Kept only as a hash."""
    models: tuple[ModelName, ...] = ()
    """Models this key may use, globs allowed; all where none is given."""
    max_priority: Literal["high", "normal", "low"] = "normal"
    """The highest `x-gateway-priority` it may ask for."""
    admin: bool = False
    """Whether it may change things at `/admin`."""


class Telemetry(Struct, frozen=True, kw_only=True):
    """What the gateway tells, and to whom."""

    otlp_endpoint: Url | None = None
    """Where spans go: the base URL of an OTLP/HTTP collector. No tracing without it."""
    sample: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of requests traced, where the caller has not decided that already."""
    access_log: bool = True
    """One JSON line per request on standard output."""


class Config(Struct, frozen=True, kw_only=True):
    """All of routing.yaml."""

    backends: Annotated[dict[Label, BackendOptions], Meta(min_length=1)]
    """The engines, by name."""
    models: Annotated[dict[ModelName, Model], Meta(min_length=1)]
    """What clients may ask for, by name; a name may be a glob such as `qwen-*`."""
    server: Server = Server()
    """Where and how the gateway listens."""
    keys: dict[Label, Key] = {}
    """Who may ask, by name. Without keys the gateway is open."""
    retry_budget: RetryBudget = RetryBudget()
    """How many retries all requests together may cause."""
    memory_limit: Size | None = None
    """What the engines that the gateway starts may hold together: beyond it, the one that was
    not asked for the longest time makes room."""
    telemetry: Telemetry = Telemetry()
    """What the gateway tells, and to whom."""
