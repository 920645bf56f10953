"""Who can serve a request at all, by what engines claim. Pure; a claim is no promise.

Only a definite "cannot" passes somebody over: an engine that claims what it cannot do says no
itself, and that is judged like any other answer.
"""

from __future__ import annotations

from collections.abc import Iterator

from backends.base import CAPABILITY_OF, Backend, Cause
from backends.capabilities import Capability
from gateway.config.names import is_glob
from gateway.dispatch.ask import Ask
from gateway.dispatch.verdict import Failure, Tells
from gateway.errors import GatewayError, NotSupported, Unavailable, Unsupported
from gateway.routing.reasons import by_reason
from gateway.routing.table import Variant
from gateway.wire.needs import field_of

TRANSLATED = frozenset({Capability.RESPONSES, Capability.MESSAGES})
"""Dialects that the gateway speaks itself, to an engine that has chat."""
_COUNTED = TRANSLATED | {Capability.COUNT_TOKENS}
"""The same for an engine that counts a chat's tokens."""

_ENDPOINTS = frozenset(CAPABILITY_OF.values())
_SHOWN = 5
"""Models that an error names."""


def lacks(backend: Backend, needs: frozenset[Capability]) -> frozenset[Capability]:
    """What of `needs` the backend cannot do; empty where it can serve."""
    if needs <= backend.capabilities:
        return frozenset()
    missing = needs - backend.capabilities
    if Capability.CHAT not in backend.capabilities:
        return missing
    return missing - (_COUNTED if backend.counts_chats else TRANSLATED)


def speaks(backend: Backend, ask: Ask) -> bool:
    """Whether it takes the request as it came; else it is asked in a chat."""
    return CAPABILITY_OF[ask.endpoint] in backend.capabilities


def is_able(variant: Variant, ask: Ask) -> bool:
    """Whether `variant` has somebody to ask who does not definitely say no."""
    if not variant.replicas:
        return False
    backend = variant.replicas[0].backend
    if ask.needs <= backend.capabilities:
        return True  # the common case: the endpoint is among the needs
    if speaks(backend, ask) or lacks(backend, ask.needs):
        return False
    chat = ask.as_chat()
    return chat.refusal is None and not lacks(backend, chat.needs)


def cannot_serve(variant: Variant, ask: Ask) -> Failure | None:
    """Why nobody of `variant` needs to be asked at all, if so.

    Raises `BadRequest` where nobody else needs to be either: the request itself is wrong.
    """
    if not variant.replicas:
        error = Unavailable(f"backend {variant.backend!r} has no replica", retry_after=1.0)
        return _not_there("no_replica", error)
    backend = variant.replicas[0].backend
    if ask.needs <= backend.capabilities:
        return _lacks_adapter(variant)
    missing = lacks(backend, ask.needs)
    if not missing and not speaks(backend, ask):
        chat = ask.as_chat()
        if isinstance(chat.refusal, Unsupported):
            return _unable(chat.refusal)
        if chat.refusal is not None:
            raise chat.refusal
        missing = lacks(backend, chat.needs)
    return _unable(_refusal(variant, missing, ask)) if missing else _lacks_adapter(variant)


def _unable(error: GatewayError) -> Failure:
    return Failure(
        cause=Cause.UNSUPPORTED, error=error, retry=False, blame=False, tells=Tells.CANNOT
    )


def _not_there(cause: str, error: GatewayError) -> Failure:
    return Failure(cause=cause, error=error, retry=False, blame=False, tells=Tells.NOBODY)


def _refusal(variant: Variant, missing: frozenset[Capability], ask: Ask) -> GatewayError:
    """That `variant` cannot do what is `missing`, of all that `ask` needs."""
    where = f"the engine behind {ask.model!r} (backend {variant.backend!r})"
    if missing & _ENDPOINTS:
        return NotSupported(f"{where} does not serve /v1/{ask.endpoint}{_who_can(ask)}")
    first = min(missing)
    field = field_of(first, ask.endpoint)
    told = variant.replicas[0].backend.why_not.get(first)
    why = f" ({told})" if told else ""
    return Unsupported(
        f"`{field}`: {where} cannot do {', '.join(sorted(missing))}{why}{_who_can(ask)}",
        param=field,
    )


def _lacks_adapter(variant: Variant) -> Failure | None:
    """Nobody is asked for an adapter he does not have: the answer would be somebody else's."""
    adapter = variant.adapter
    if adapter is None or variant.able():
        return None
    faults = ((one.id, one.adapter_faults.get(adapter, "not loaded")) for one in variant.replicas)
    said = by_reason(faults)
    error = Unavailable(f"no replica has the adapter {adapter.name!r}: {said}", retry_after=1.0)
    return _not_there("no_adapter", error)


def _who_can(ask: Ask) -> str:
    """Models that the client could ask instead."""
    names = list(_able_models(ask))
    if not names:
        return "; no model here can"
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return f"; models that can: {', '.join(names[:_SHOWN])}{more}"


def _able_models(ask: Ask) -> Iterator[str]:
    for route in ask.table.routes:
        allowed = ask.principal is None or ask.principal.may_use(route.name)
        if route.public and allowed and not is_glob(route.name):
            arms = [variant for variant in route.variants if variant.weight > 0]
            if any(is_able(variant, ask) for variant in arms):
                yield route.name
