"""`/admin/backends/{backend}/adapters`: which LoRA adapters a backend has, and changing them.

A change is loaded on every replica first, then in force as a whole, as a reload of the file is. It
lies over what the file says until the gateway ends.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import MediaType, Request, Response, delete, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.params import FromPath

from backends.base import Adapter
from backends.options.adapters import AdapterName, AdapterPath
from gateway.admin.door import Door
from gateway.control.adapters import Result
from gateway.control.reload import Reloader
from gateway.control.state import State
from gateway.errors import BadRequest, NotFound
from gateway.routing.replica import Replica

_PATH = "/admin/backends/{backend:str}/adapters"
_TAGS = ["admin"]


class Wanted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The body of a POST."""

    name: AdapterName
    path: AdapterPath


_decode = msgspec.json.Decoder(Wanted).decode


def adapter_routes(door: Door, state: State, reloader: Reloader) -> list[HTTPRouteHandler]:
    """The handlers, for those whom `door` lets in."""

    @get(_PATH, summary="List a backend's adapters", tags=_TAGS, sync_to_thread=False)
    def listed(request: Request, backend: FromPath[str]) -> Response[bytes]:  # type: ignore[type-arg]
        door.require_admin(request.scope)
        shown = [_shown(one, backend, state, reloader) for one in _adapters(backend, state)]
        return _json({"backend": backend, "adapters": shown})

    @get(f"{_PATH}/{{name:str}}", summary="Show an adapter", tags=_TAGS, sync_to_thread=False)
    def one(request: Request, backend: FromPath[str], name: FromPath[str]) -> Response[bytes]:  # type: ignore[type-arg]
        door.require_admin(request.scope)
        for adapter in _adapters(backend, state):
            if adapter.name == name:
                return _json(_shown(adapter, backend, state, reloader))
        raise NotFound(f"the backend {backend!r} has no adapter {name!r}")

    @post(_PATH, summary="Add an adapter, or replace one", tags=_TAGS, status_code=200)
    async def add(request: Request, backend: FromPath[str]) -> Response[bytes]:  # type: ignore[type-arg]
        door.require_admin(request.scope)
        try:
            wanted = _decode(await request.body())
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise BadRequest(f'expected {{"name": …, "path": …}}: {error}') from None
        path, results = await reloader.change_adapter(backend, wanted.name, wanted.path)
        return _json(_changed(backend, Adapter(wanted.name, path or ""), results))

    @delete(f"{_PATH}/{{name:str}}", summary="Remove an adapter", tags=_TAGS, status_code=200)
    async def remove(
        request: Request,  # type: ignore[type-arg]
        backend: FromPath[str],
        name: FromPath[str],
    ) -> Response[bytes]:
        door.require_admin(request.scope)
        replicas = [one.id for one in _replicas(backend, state)]
        await reloader.change_adapter(backend, name, None)
        told = [{"replica": replica, "outcome": "unloading"} for replica in replicas]
        return _json({"backend": backend, "name": name, "removed": True, "replicas": told})

    return [listed, one, add, remove]


def _adapters(backend: str, state: State) -> list[Adapter]:
    options = state.snapshot.config.backends.get(backend)
    if options is None:
        raise NotFound(f"no backend is called {backend!r}")
    return sorted(options.loras, key=lambda one: one.name)


def _replicas(backend: str, state: State) -> list[Replica]:
    return [one for one in state.snapshot.replicas if one.backend_name == backend]


def _shown(adapter: Adapter, backend: str, state: State, reloader: Reloader) -> dict[str, Any]:
    """An adapter and how each replica stands to it."""
    return {
        "name": adapter.name,
        "path": adapter.path,
        "from": "file" if reloader.from_file(backend, adapter) else "admin",
        "replicas": [_standing(one, adapter) for one in _replicas(backend, state)],
    }


def _standing(replica: Replica, adapter: Adapter) -> dict[str, str]:
    if replica.serves(adapter):
        return {"replica": replica.id, "state": "loaded"}
    reason = replica.readiness.reason or replica.adapter_faults.get(adapter, "not loaded yet")
    return {"replica": replica.id, "state": "missing", "reason": reason}


def _changed(backend: str, adapter: Adapter, results: list[Result]) -> dict[str, Any]:
    told = [
        {"replica": one.replica, "outcome": one.outcome.value}
        | ({"reason": one.reason} if one.reason else {})
        for one in results
        if one.adapter == adapter
    ]
    shown = {"name": adapter.name, "path": adapter.path}
    return {"backend": backend, **shown, "replicas": told}


def _json(value: object) -> Response[bytes]:
    return Response(msgspec.json.encode(value), media_type=MediaType.JSON)
