"""Making a connection: TCP, TLS or a Unix socket, and the errors of each in httpx's terms."""

from __future__ import annotations

import asyncio
import ssl
from typing import NamedTuple

import httpx

from backends.transport.connection import Connection, Owner


class Origin(NamedTuple):
    """The far end of a connection; equal origins share connections."""

    host: str
    """A host name or an IP address; with `path` only a name to call it by."""
    port: int
    tls: bool = False
    path: str | None = None
    """A Unix socket, in place of host and port."""
    address: str | None = None
    """An IP address to connect to, where the host has been looked up already."""

    def __str__(self) -> str:
        if self.path is not None:
            return f"unix:{self.path}"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


async def dial(
    origin: Origin, owner: Owner, within: float | None, tls: ssl.SSLContext | None
) -> Connection:
    """A new connection to `origin` `within` so many seconds; name, handshake and all.

    Raises `httpx.ConnectError` (a failed TLS handshake is its `__cause__`, an `ssl.SSLError`)
    or `httpx.ConnectTimeout`.
    """
    loop = asyncio.get_running_loop()
    connection = Connection(owner, loop)
    try:
        async with asyncio.timeout(within):
            if origin.path is not None:
                await loop.create_unix_connection(
                    lambda: connection,
                    origin.path,
                    ssl=tls,
                    server_hostname=origin.host if tls else None,
                )
            else:
                await loop.create_connection(
                    lambda: connection,
                    origin.address or origin.host,
                    origin.port,
                    ssl=tls,
                    server_hostname=origin.host if tls else None,
                )
    except TimeoutError as error:
        # The system's own timeout (ETIMEDOUT) is an OSError that is a TimeoutError, too.
        limit = f" within {within:g} s" if within is not None else ""
        raise httpx.ConnectTimeout(f"no connection to {origin}{limit}") from error
    except (OSError, ValueError) as error:
        raise httpx.ConnectError(f"no connection to {origin}: {_reason(error)}") from error
    if connection.closed:
        raise httpx.ConnectError(f"{origin} closed the connection as soon as it was made")
    return connection


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not trusted: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS failed: {error.reason or error}"
    if isinstance(error, ConnectionRefusedError):
        return "connection refused"
    if isinstance(error, FileNotFoundError):
        return "there is no such socket"
    return getattr(error, "strerror", None) or str(error) or type(error).__name__
