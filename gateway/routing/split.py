"""Which variant of a route a request goes to. Pure: the same request, the same variant.

Weights are kept by weighted rendezvous hashing (`gateway.policies.rendezvous`) of the sticky key
and the variant's own salt: a variant wins with probability weight / total, and raising one weight
can only move keys to that variant, none between the others.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import inf

from gateway.policies.rendezvous import distance
from gateway.routing.table import Route, Rule, Sticky, Variant
from gateway.wire.fields import Fields


def sticky_key(
    sticky: Sticky,
    *,
    user: str | None,
    key_name: str | None,
    headers: Fields,
    conversation: bytes | None,
    random: bytes,
) -> bytes:
    """Name what shall stay together on one variant, as `sticky` says.

    Where the request lacks it, the conversation's beginning takes its place; where there is
    none either, or nothing shall stick, `random`: bytes that differ from request to request.
    """
    match sticky.kind:
        case "user" if user:
            return b"user\0" + user.encode("utf-8", "surrogatepass")
        case "key" if key_name:
            return b"key\0" + key_name.encode()
        case "header":
            for value in headers.every(sticky.header):
                if value:
                    return b"header\0" + value
        case "none":
            return random
    return b"conversation\0" + conversation if conversation else random


def choose_variant(
    route: Route, *, key_name: str | None, headers: Fields, sticky_key: bytes
) -> Variant:
    """Pick the variant: the first rule that fits, else by weight and `sticky_key`.

    `sticky_key` is not looked at where the route has a single variant.
    """
    if len(route.variants) == 1:
        return route.variants[0]
    for rule in route.rules:
        if _fits(rule, key_name, headers):
            return rule.variant
    return _by_weight(route.variants, sticky_key)


def choose_among(variants: Sequence[Variant], sticky_key: bytes) -> Variant | None:
    """Pick one of `variants` by weight and `sticky_key`; None where all are for rules only."""
    weighted = [variant for variant in variants if variant.weight > 0]
    return _by_weight(weighted, sticky_key) if weighted else None


def _fits(rule: Rule, key_name: str | None, headers: Fields) -> bool:
    if rule.keys and key_name not in rule.keys:
        return False
    return all(
        any(glob.matches(value.decode("latin-1")) for value in headers.every(wanted))
        for wanted, glob in rule.headers
    )


def _by_weight(variants: Sequence[Variant], sticky_key: bytes) -> Variant:
    chosen, shortest = variants[0], inf
    for variant in variants:
        if variant.weight > 0:
            point = variant.seed.copy()
            point.update(sticky_key)
            away = distance(point.digest(), variant.weight)
            if away < shortest:
                chosen, shortest = variant, away
    return chosen
