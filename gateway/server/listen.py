"""Bind the address, before anything is started that would have to be stopped again."""

from __future__ import annotations

import socket

_BACKLOG = 2048


class ListenError(Exception):
    """The address cannot be listened on; the message says why and what to do."""


def listen(host: str, port: int) -> socket.socket:
    """Bind the address. Raises `ListenError`."""
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        bound = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except (OSError, OverflowError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ListenError(
            f"cannot listen on {host}:{port}: {reason}; stop what uses it, or choose another "
            "with `server.port` in routing.yaml or `--port`"
        ) from error
    bound.setblocking(False)
    return bound
