"""From where images may be fetched, and what a URL comes to. Pure.

Fetching on a client's word lets it reach what only this machine can reach (server-side request
forgery, OWASP A10:2021). Rules of this file:

- Only hosts that the configuration lists, on the ports it lists, else those of http and https.
- An address that is not public is reached only by a host that is listed without a wildcard: its
  name is the operator's own word, a wildcard's are whatever their owner makes of them.
- What was judged here is what is connected to: an address, and not a name to be looked up again.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import NamedTuple
from urllib.parse import SplitResult, quote, urlsplit

from backends.inprocess.refusals import Code, refuse

_PORTS = {"http": 80, "https": 443}
_LONGEST = 4096
"""Characters of a URL that is no data URL."""
_PATH_SAFE = "/%:@!$&'()*+,;=~"
_UNICAST = ipaddress.IPv6Network("2000::/3")
"""All that is global in IPv6 (RFC 4291, 2.4). What lies beside it is local, or stands for addresses
of IPv4: `::127.0.0.1`, or NAT64's."""
_TRANSLATED = tuple(map(ipaddress.IPv6Network, ("2002::/16", "2001::/32")))
"""6to4, Teredo: addresses of it that stand for others."""


class Place(NamedTuple):
    """Where an image is."""

    host: str
    port: int
    tls: bool
    target: str
    """Path and query, in ASCII."""
    trusted: bool
    """Listed by name, so its addresses may be private."""

    @property
    def authority(self) -> str:
        """Host and port, as a `Host` header has them."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return (
            host if self.port == _PORTS["https" if self.tls else "http"] else f"{host}:{self.port}"
        )


class ImageHosts:
    """The hosts of `fetch_from`: `name`, `name:port`, `*.domain` or `*`."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._rules = [_rule(pattern) for pattern in patterns]

    def __bool__(self) -> bool:
        return bool(self._rules)

    def place(self, url: str, where: str) -> Place:
        """What `url` comes to. Raises `RequestRefused`, which names `where`."""
        split, port = _split(url, where)
        if split.scheme not in _PORTS:
            refuse(where, "must be a data: or an http(s):// URL", code=Code.IMAGE_URL)
        if not self:
            what = (
                "must be a data: URL (data:image/png;base64,…): images are not fetched here "
                "unless `images.fetch_from` of the engine's backend lists their hosts"
            )
            refuse(where, what, code=Code.IMAGE_URL)
        host = (split.hostname or "").rstrip(".")
        if not host or not host.isascii() or split.username is not None:
            refuse(where, "must have a host in ASCII, and no user", code=Code.IMAGE_URL)
        fitting = [rule for rule in self._rules if rule.fits(host, port, split.scheme)]
        if not fitting:
            what = f"is at {host}:{port}, which `images.fetch_from` of the backend does not list"
            refuse(where, what, code=Code.IMAGE_URL)
        target = quote(split.path or "/", safe=_PATH_SAFE)
        if split.query:
            target += f"?{quote(split.query, safe=_PATH_SAFE + '?')}"
        trusted = any(rule.exact for rule in fitting)
        return Place(host, port, split.scheme == "https", target, trusted)


def may_reach(address: str, *, trusted: bool) -> bool:
    """Whether an image may be fetched from `address`, an IP address."""
    if trusted:
        return True
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        if found.ipv4_mapped is not None:
            found = found.ipv4_mapped
        elif found not in _UNICAST or any(found in network for network in _TRANSLATED):
            return False
    return found.is_global and not found.is_multicast


class _Rule(NamedTuple):
    name: str
    """What a host must be, or end with."""
    exact: bool
    port: int | None

    def fits(self, host: str, port: int, scheme: str) -> bool:
        named = host == self.name if self.exact else host.endswith(self.name)
        return named and port == (self.port or _PORTS[scheme])


def _rule(pattern: str) -> _Rule:
    split = urlsplit(f"//{pattern.replace('*', '')}")
    exact = "*" not in pattern
    return _Rule((split.hostname or "").rstrip("."), exact, split.port)


def _split(url: str, where: str) -> tuple[SplitResult, int]:
    try:
        if len(url) > _LONGEST:
            raise ValueError("it is too long")
        split = urlsplit(url)
        return split, split.port or _PORTS.get(split.scheme, 0)
    except ValueError as error:
        return refuse(where, f"is no URL: {error}", code=Code.IMAGE_URL)
