"""What routing.yaml can say, as typed, frozen structs. No parsing, no I/O, no defaults elsewhere.

Every field's docstring is what `gateway schema` shows in an editor.
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from backends import BackendOptions
from gateway.config.units import Duration, Size

Name = Annotated[str, Meta(min_length=1, max_length=256)]
Weight = Annotated[float, Meta(ge=0)]


class Struct(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base of all: immutable, keyword-only, unknown keys refused."""


class Limits(Struct):
    """What a client may send; beyond it a 4xx that says so."""

    body: Size = Size(32 << 20)
    """The largest request body."""
    headers: Size = Size(32 << 10)
    """The largest request head: request line and all headers together."""
    header_timeout: Duration = Duration(10)
    """How long a client may take to send a request's head."""
    body_timeout: Duration = Duration(60)
    """How long a client may be silent while it sends a body."""


class Drain(Struct):
    """What SIGTERM does."""

    grace: Duration = Duration(5)
    """How long `/ready` says no, while requests are still taken, so that load balancers notice."""
    timeout: Duration = Duration(600)
    """How long running requests may go on after that."""


class Server(Struct):
    """Where and how the gateway listens."""

    host: str = "127.0.0.1"
    """The address to listen on."""
    port: Annotated[int, Meta(ge=0, le=65535)] = 8088
    """The port to listen on; 0 takes a free one."""
    insecure: bool = False
    """Listen beyond loopback although no `keys` are set."""
    keep_alive: Duration = Duration(75)
    """How long an idle client connection stays open."""
    limits: Limits = Limits()
    drain: Drain = Drain()


class Timeouts(Struct):
    """How long each part of an answer may take."""

    connect: Duration = Duration(2)
    """To establish a connection to a replica."""
    first_token: Duration = Duration(60)
    """To the first content of a stream; a non-streaming answer has only `total`."""
    idle: Duration = Duration(60)
    """Between two pieces of a stream."""
    total: Duration = Duration(600)
    """For the whole request, all attempts together."""


class Retry(Struct):
    """How often one request may be tried on one route, the first try included."""

    attempts: Annotated[int, Meta(ge=1, le=10)] = 3
    """Tries in all; 1 means no retry."""
    backoff: Duration = Duration(0.025)
    """The base of the jittered, doubling wait between tries on the same replica."""
    max_backoff: Duration = Duration(2)
    """The longest wait between two tries, also where an engine's `Retry-After` asks for more."""


class RetryBudget(Struct):
    """How many retries all requests together may cause, over a sliding window."""

    percent: Annotated[float, Meta(ge=0, le=100)] = 20
    """Retries as a share of the requests in the window."""
    min_per_second: Annotated[float, Meta(ge=0)] = 10
    """Retries per second that are always allowed."""
    window: Duration = Duration(10)
    """The length of the window."""


class Variant(Struct):
    """One arm of a route."""

    backend: Name
    """The name of an entry under `backends`."""
    weight: Weight = 100
    """Its share of the traffic, relative to the other variants."""
    model: Name | None = None
    """What the backend calls the model, where that differs from the backend's own `model`."""


class When(Struct):
    """A condition on a request; all parts given must hold."""

    headers: dict[str, str] = {}
    """Header names and the value each must have; `*` stands for any characters."""
    keys: tuple[Name, ...] = ()
    """Names under `keys`: the request must come with one of them."""


class Rule(Struct):
    """Requests that match go to one variant, whatever the weights."""

    when: When
    variant: Name
    """The name of one of the route's variants."""


class Model(Struct):
    """One name that clients may ask for, and where it goes."""

    backend: Name | None = None
    """Short for a single variant, called `default`."""
    model: Name | None = None
    """With `backend`: what the backend calls the model."""
    variants: dict[str, Variant] = {}
    """Arms of the route, by name."""
    aliases: tuple[Name, ...] = ()
    """Other names for this model."""
    rules: tuple[Rule, ...] = ()
    """Checked in order before the weights; the first that matches decides."""
    sticky: Annotated[
        str, Meta(pattern=r"^(user|key|conversation|none|header:[A-Za-z0-9-]+)$")
    ] = "conversation"
    """What keeps a client on one variant: `user`, `key`, `conversation`, `header:NAME` or `none`."""
    balance: Literal["least_outstanding", "round_robin", "random"] = "least_outstanding"
    """How a replica of the chosen variant is picked."""
    retry: Retry = Retry()
    timeouts: Timeouts = Timeouts()
    fallback: tuple[Name, ...] = ()
    """Models to try, in order, when this one cannot answer."""
    public: bool = True
    """Whether `/v1/models` lists it."""


class Key(Struct):
    """One API key."""

    value: Annotated[str, Meta(min_length=8)]
    """The secret, from the environment: `${ALICE_KEY}`. Kept only as a hash."""
    models: tuple[Name, ...] = ()
    """Models this key may use, globs allowed; all where none is given."""


class Telemetry(Struct):
    """What the gateway tells, and to whom."""

    otlp_endpoint: str | None = None
    """Where spans go: the base URL of an OTLP/HTTP collector. No tracing without it."""
    sample: Annotated[float, Meta(ge=0, le=1)] = 1.0
    """The share of requests traced, where the caller has not decided that already."""
    access_log: bool = True
    """One JSON line per request on standard output."""


class Config(Struct):
    """All of routing.yaml."""

    backends: dict[str, BackendOptions]
    """The engines, by name."""
    models: dict[str, Model]
    """What clients may ask for, by name; a name may be a glob such as `qwen-*`."""
    server: Server = Server()
    keys: dict[str, Key] = {}
    """Who may ask, by name. Without keys the gateway is open."""
    retry_budget: RetryBudget = RetryBudget()
    telemetry: Telemetry = Telemetry()
