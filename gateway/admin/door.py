"""Who may change things: the holder of a key with `admin: true`, or, without keys, this machine."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from litestar.types import Scope

from gateway.config.checks import is_loopback
from gateway.config.structs import Key
from gateway.control.state import State
from gateway.errors import Forbidden
from gateway.routing.principal import Principal

Identify = Callable[[Mapping[str, Key], Scope], Principal | None]
"""Who sent a request, of the holders of these keys; None where there are none. Raises
`GatewayError`."""


class Door:
    """Lets in who may."""

    def __init__(self, state: State, identify: Identify, host: str) -> None:
        """`host` is what the gateway listens on."""
        self._state = state
        self._identify = identify
        self._host = host

    def require_admin(self, scope: Scope) -> None:
        """Raises `Unauthenticated` or `Forbidden`."""
        config = self._state.snapshot.config
        principal = self._identify(config.keys, scope)
        if principal is None:
            if not is_loopback(self._host):
                raise Forbidden(
                    "others can reach this gateway, and it has no keys: set `keys`, one of them "
                    "with `admin: true`"
                )
        elif not principal.admin:
            raise Forbidden(f"the key {principal.name!r} has no `admin: true`")
