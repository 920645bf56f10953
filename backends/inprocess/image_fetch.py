"""Fetches images over HTTP from the hosts that may be asked; see `image_hosts`.

Rules of this file:

- Nothing of the client's request goes along, and nothing of the answer but an image comes back.
- Size and time are bounded while it is read, and each redirect is judged like the URL itself.
- Neither logs nor errors have more of a URL than its host: the rest may be a key.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property, partial
from urllib.parse import urljoin

import httpx

from backends.base import RequestRefused
from backends.inprocess.image_hosts import ImageHosts, Place, may_reach
from backends.inprocess.image_parts import MAX_FILE, ImagePart, too_long
from backends.inprocess.refusals import Code, refusal, refuse
from backends.transport.connection import Connection
from backends.transport.dial import Origin, dial
from backends.transport.exchange import Exchange
from backends.transport.transport import check_head

_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 3
_MOST_ADDRESSES = 4
_NAMES_AT_ONCE = 4
"""Names that are looked up at the same time. A resolver that is dead holds its thread long after
nobody waits for it: so these are threads of their own, and what is decoded has others."""
_HEADERS = (
    ("accept", "image/*"),
    ("accept-encoding", "identity"),
    ("user-agent", "llm-gateway"),
    ("connection", "close"),
)


class ImageFetcher:
    """Fetches images from `hosts`, each `within` so many seconds.

    `tls` is the context for https; without it the system's authorities count.
    """

    def __init__(
        self, hosts: ImageHosts, *, within: float = 10.0, tls: ssl.SSLContext | None = None
    ) -> None:
        self._hosts = hosts
        self._within = within
        self._tls = tls

    async def fetch(self, image: ImagePart) -> bytes:
        """The file that `image` names. Raises `RequestRefused`."""
        where, url = image
        place = self._hosts.place(url, where)
        try:
            async with asyncio.timeout(self._within):
                for _ in range(_MOST_REDIRECTS + 1):
                    found = await self._get(place, where)
                    if isinstance(found, bytes):
                        return found
                    url = urljoin(url, found)
                    place = self._hosts.place(url, where)
        except TimeoutError:
            raise _failed(where, place, f"it took more than {self._within:g} s") from None
        except socket.gaierror:
            raise _failed(where, place, "its name has no address") from None
        except (httpx.TransportError, OSError) as error:
            raise _failed(where, place, str(error) or type(error).__name__) from None
        except ValueError:  # of IDNA's encoder, or `urljoin`; it may hold all of the URL
            why = "its name, or the URL that it redirects to, is not a valid one"
            raise _failed(where, place, why) from None
        raise _failed(where, place, f"it redirects more than {_MOST_REDIRECTS} times")

    async def _get(self, place: Place, where: str) -> bytes | str:
        """The file there; or where else it is, as the server says."""
        connection = await self._connect(place, await self._addresses(place, where))
        try:
            exchange = await connection.exchange(_head(place), b"")
            headers = httpx.Headers(exchange.headers)
            if exchange.status in _REDIRECTS and "location" in headers:
                return headers["location"]
            if exchange.status != 200:
                raise _failed(where, place, f"it answers HTTP {exchange.status}")
            if headers.get("content-encoding", "identity").lower() != "identity":
                raise _failed(where, place, "it compressed its answer, unasked")
            return await _read(exchange, where)
        finally:
            connection.abort()

    async def _addresses(self, place: Place, where: str) -> list[str]:
        """Its addresses that may be reached, at least one. Raises `RequestRefused` or `OSError`."""
        ask = partial(socket.getaddrinfo, place.host, place.port, type=socket.SOCK_STREAM)
        infos = await asyncio.get_running_loop().run_in_executor(self._names, ask)
        found = dict.fromkeys(str(info[4][0]) for info in infos)
        allowed = [address for address in found if may_reach(address, trusted=place.trusted)]
        if not allowed:
            what = (
                f"is at {place.host}, whose address is not a public one: "
                "`images.fetch_from` of the backend must list that very host"
            )
            refuse(where, what, code=Code.IMAGE_URL)
        return allowed

    async def _connect(self, place: Place, addresses: list[str]) -> Connection:
        """To the first of `addresses` that answers. Raises `httpx.ConnectError`."""
        tls = self._context if place.tls else None
        *others, last = addresses[:_MOST_ADDRESSES]
        for address in others:
            origin = Origin(place.host, place.port, place.tls, address=address)
            with contextlib.suppress(httpx.TransportError):
                return await dial(origin, _ForOne(), self._within / 4, tls)
        return await dial(
            Origin(place.host, place.port, place.tls, address=last), _ForOne(), None, tls
        )

    @cached_property
    def _names(self) -> ThreadPoolExecutor:
        """Its threads end when nobody has it any more."""
        return ThreadPoolExecutor(_NAMES_AT_ONCE, "image-names")

    @cached_property
    def _context(self) -> ssl.SSLContext:
        return self._tls or ssl.create_default_context()


class _ForOne:
    """Owns a connection that is used once."""

    def release(self, connection: Connection) -> None:
        connection.abort()

    def lost(self, connection: Connection) -> None:
        """Whoever uses it is told by the exchange."""


async def _read(exchange: Exchange, where: str) -> bytes:
    found = bytearray()
    async for piece in exchange:
        found += piece
        if len(found) > MAX_FILE:
            too_long(where)
    return bytes(found)


def _head(place: Place) -> bytes:
    fields = (("host", place.authority), *_HEADERS)
    lines = [f"GET {place.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields)]
    head = "\r\n".join([*lines, "", ""]).encode("ascii")
    check_head(head, len(fields))
    return head


def _failed(where: str, place: Place, why: str) -> RequestRefused:
    what = f"could not be fetched from {place.host}: {why}"
    return refusal(where, what, code=Code.IMAGE_DOWNLOAD)
