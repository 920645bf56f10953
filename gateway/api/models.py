"""`/v1/models` and `/v1/models/{id}`: what this client may ask for."""

from __future__ import annotations

from typing import Any

from gateway.config.names import is_glob
from gateway.control.state import Snapshot
from gateway.errors import ModelNotFound
from gateway.routing.principal import Principal
from gateway.routing.table import Route

_CREATED = 0
"""OpenAI's clients want a time of creation; a route has none."""


def list_models(snapshot: Snapshot, principal: Principal | None) -> dict[str, Any]:
    """OpenAI's list, in the order of routing.yaml, aliases beside their model."""
    names = [
        (name, route)
        for route in snapshot.table.routes
        if route.public and _visible(route.name, principal)
        for name in (route.name, *route.aliases)
        if not is_glob(name)
    ]
    return {"object": "list", "data": [_model(name, route) for name, route in names]}


def show_model(snapshot: Snapshot, principal: Principal | None, name: str) -> dict[str, Any]:
    """OpenAI's model object. Raises `ModelNotFound` with the nearest names."""
    visible = principal.may_use if principal is not None else None
    route = snapshot.table.resolve(name, visible)
    if not _visible(route.name, principal):
        raise ModelNotFound(f"the model {name!r} does not exist for this key", param="model")
    return _model(name, route)


def _visible(name: str, principal: Principal | None) -> bool:
    return principal is None or principal.may_use(name)


def _model(name: str, route: Route) -> dict[str, Any]:
    shown = {"id": name, "object": "model", "created": _CREATED, "owned_by": "gateway"}
    if route.parent is not None:  # as vLLM tells an adapter from its model
        shown |= {"root": route.name, "parent": route.parent}
    return shown
