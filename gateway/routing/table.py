"""The routing table: what every model name resolves to. Built once, then only read.

A request takes the table that stands when it arrives and keeps it to its end; a reload builds
another one. Nothing here changes after `Table.build`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from difflib import get_close_matches
from hashlib import blake2b
from typing import Literal

import msgspec

from backends.base import Adapter
from backends.options import HttpOptions
from gateway.config import structs
from gateway.config.adapters import adapter_models
from gateway.config.names import Glob, NameIndex, is_glob
from gateway.errors import ModelNotFound
from gateway.policies import POLICIES, Policy
from gateway.routing.replica import Replica

Policies = Mapping[tuple[str, str, str, Adapter | None], Policy]
"""By route, variant, backend and adapter."""

_SHOWN = 128
"""Characters of an unknown name that an error repeats."""


class Sticky(msgspec.Struct, frozen=True):
    """What keeps a client on one variant; `header` is the lower-case name, for that kind."""

    kind: Literal["user", "key", "conversation", "header", "none"]
    header: bytes = b""

    @classmethod
    def parse(cls, text: str) -> Sticky:
        """Read `user`, `key`, `conversation`, `none` or `header:NAME`, already checked."""
        kind, _, header = text.partition(":")
        return cls(kind, header.lower().encode("ascii"))  # type: ignore[arg-type]


class Variant(msgspec.Struct, frozen=True, kw_only=True):
    """One arm of a route, with the replicas that can serve it."""

    name: str
    weight: float
    """Its share, relative to the other variants; 0 is reached by rules only."""
    backend: str
    """The name of its backend."""
    replicas: tuple[Replica, ...]
    policy: Policy
    """Picks among `replicas`; the one thing here that remembers, and only between its picks."""
    upstream: str | None
    """What the engine calls the model; None where that is the name the client asked for."""
    adapter: Adapter | None
    """The LoRA adapter that answers; None for the model itself."""
    checkpoint: str | None
    """What its weights are called: variants with the same say the same."""
    seed: blake2b
    """Makes the variant's point in the stable hash its own: keyed with the route's and its name,
    and copied for each request, which is cheaper than keying it anew."""

    def upstream_model(self, requested: str) -> str:
        """The name to put into the engine's request, for a client that asked for `requested`."""
        return requested if self.upstream is None else self.upstream

    def able(self) -> tuple[Replica, ...]:
        """Those of its replicas that have its adapter; all where it has none."""
        if self.adapter is None:
            return self.replicas
        return tuple(replica for replica in self.replicas if replica.serves(self.adapter))


class Rule(msgspec.Struct, frozen=True, kw_only=True):
    """Requests that fit all conditions go to `variant`."""

    headers: tuple[tuple[bytes, Glob], ...]
    """Lower-case names, and what one value of each must fit (as latin-1 text)."""
    keys: frozenset[str]
    """Names of keys, one of which must have been used; empty means any, or none."""
    variant: Variant


class Route(msgspec.Struct, frozen=True, kw_only=True):
    """What a model name resolves to."""

    name: str
    """The model's name in routing.yaml; may be a glob."""
    aliases: tuple[str, ...]
    variants: tuple[Variant, ...]
    """In the order of the file; never empty."""
    rules: tuple[Rule, ...]
    sticky: Sticky
    retry: structs.Retry
    failover: structs.Failover
    budget: structs.LatencyBudget | None
    concurrency: int | None
    queue: structs.Queue
    hedge: structs.Hedge | None
    timeouts: structs.Timeouts
    fallback: structs.Fallback
    """Names of models to try next, by cause."""
    public: bool
    parent: str | None = None
    """The model that this one is, but for an adapter: of `MODEL:ADAPTER`, the model."""

    @property
    def gate(self) -> str:
        """Whose gate it is behind: an adapter shares the engines of its model."""
        return self.parent or self.name


class Table:
    """All routes, found by name."""

    __slots__ = ("_index", "routes")

    def __init__(self, routes: tuple[Route, ...]) -> None:
        self.routes = routes
        """In the order of the file."""
        self._index: NameIndex[Route] = NameIndex(_entries(routes))

    @classmethod
    def build(
        cls,
        config: structs.Config,
        replicas: Mapping[str, tuple[Replica, ...]],
        before: Table | None = None,
    ) -> Table:
        """Turn a checked `config` into routes; `replicas` has an entry for each backend.

        What policies of the table `before` remember is kept where their variants are the same.
        """
        derived = adapter_models(config)
        known = {} if before is None else before.policies()
        routes = []
        for name, model in config.models.items():
            routes.append(_route(name, model, config, replicas, known))
            routes += [
                _route(alias, one.model, config, replicas, known, parent=name)
                for alias, one in derived.items()
                if one.parent == name
            ]
        return cls(tuple(routes))

    def policies(self) -> Policies:
        """What picks for each variant."""
        return {
            (route.name, variant.name, variant.backend, variant.adapter): variant.policy
            for route in self.routes
            for variant in route.variants
        }

    def resolve(self, name: str, visible: Callable[[str], bool] | None = None) -> Route:
        """Find the route for `name`: exactly, by alias, then by the most specific glob.

        Raises `ModelNotFound` with the nearest public names, of those `visible` accepts.
        """
        route = self.find(name)
        if route is None:
            raise ModelNotFound(self._unknown(name, visible), param="model")
        return route

    def find(self, name: str) -> Route | None:
        """The same; None where there is none."""
        return self._index.find(name)

    def _unknown(self, name: str, visible: Callable[[str], bool] | None) -> str:
        shown = name if len(name) <= _SHOWN else name[:_SHOWN] + "…"
        message = f"The model {msgspec.json.encode(shown).decode()} does not exist."
        known = {
            alias.lower(): alias
            for route in self.routes
            if route.public
            for alias in (route.name, *route.aliases)
            if not is_glob(alias) and (visible is None or visible(alias))
        }
        near = get_close_matches(shown.lower(), known, n=3, cutoff=0.5)
        if near:
            return f"{message} Did you mean {' or '.join(f'{known[key]!r}' for key in near)}?"
        return f"{message} `GET /v1/models` lists those that do."


def _entries(routes: tuple[Route, ...]) -> Iterator[tuple[str, Route]]:
    """Names before aliases, so that a name wins."""
    for route in routes:
        yield route.name, route
    for route in routes:
        for alias in route.aliases:
            yield alias, route


def _route(
    name: str,
    model: structs.Model,
    config: structs.Config,
    replicas: Mapping[str, tuple[Replica, ...]],
    known: Policies,
    parent: str | None = None,
) -> Route:
    variants = {
        arm: Variant(
            name=arm,
            weight=variant.weight,
            backend=variant.backend,
            replicas=replicas[variant.backend],
            policy=_policy(
                model.balance,
                known.get((name, arm, variant.backend, _adapter(variant, config))),
            ),
            upstream=_upstream(parent or name, variant, config),
            adapter=_adapter(variant, config),
            checkpoint=variant.checkpoint,
            seed=_seed(name, arm),
        )
        for arm, variant in model.arms().items()
    }
    return Route(
        name=name,
        aliases=model.aliases,
        variants=tuple(variants.values()),
        rules=tuple(_rule(rule, variants) for rule in model.rules),
        sticky=Sticky.parse(model.sticky),
        retry=model.retry,
        failover=model.failover,
        budget=model.budget,
        concurrency=model.concurrency,
        queue=model.queue,
        hedge=model.hedge,
        timeouts=model.timeouts,
        fallback=model.fallbacks(),
        public=model.public,
        parent=parent,
    )


def _policy(name: str, known: Policy | None) -> Policy:
    """The policy called `name`: the `known` one, if it is of that kind."""
    fresh = POLICIES[name]()
    return known if known is not None and type(known) is type(fresh) else fresh


def _adapter(variant: structs.Variant, config: structs.Config) -> Adapter | None:
    if variant.adapter is None:
        return None
    return {one.name: one for one in config.backends[variant.backend].loras}[variant.adapter]


def _upstream(name: str, variant: structs.Variant, config: structs.Config) -> str | None:
    """The engine's name for the model; None for the requested one."""
    if variant.model is not None:
        return variant.model
    options = config.backends[variant.backend]
    # An in-process engine's `model` is a place to load it from, and none of a client's business.
    if isinstance(options, HttpOptions) and options.model is not None:
        return options.model
    return None if is_glob(name) else name


def _rule(rule: structs.Rule, variants: Mapping[str, Variant]) -> Rule:
    return Rule(
        headers=tuple(
            (name.lower().encode("ascii"), Glob(value)) for name, value in rule.when.headers.items()
        ),
        keys=frozenset(rule.when.keys),
        variant=variants[rule.variant],
    )


def _seed(route: str, variant: str) -> blake2b:
    salt = blake2b(f"{route}\0{variant}".encode(), digest_size=16).digest()
    return blake2b(digest_size=8, key=salt)
