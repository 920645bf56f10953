"""Learn who asks: an API key makes a Principal; without keys everybody is let in.

Everybody but a foreign page: a browser sends what any page tells it to, also to loopback. Where
keys are set that comes to nothing, since a page has none.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from ipaddress import ip_address
from urllib.parse import urlsplit

from gateway.config.structs import Key
from gateway.errors import Forbidden, Unauthenticated
from gateway.routing.admission import Priority
from gateway.routing.principal import Principal
from gateway.wire.fields import Fields


class Authenticator:
    """Finds the principal of a request among the keys in force."""

    def __init__(self) -> None:
        self._keys: Mapping[str, Key] | None = None
        self._principals: Mapping[bytes, Principal] = {}
        """By the digest of the key."""

    def identify(self, keys: Mapping[str, Key], headers: Fields) -> Principal | None:
        """The principal; None where the gateway is open.

        Raises `Unauthenticated`, and `Forbidden` for a page that is none of this machine's.
        """
        if not keys:
            _refuse_foreign_pages(headers)
            return None
        if keys is not self._keys:  # a reload has brought others
            self._principals = {
                key.value.digest: _principal(name, key) for name, key in keys.items()
            }
            self._keys = keys
        presented = _presented(headers)
        if presented is None:
            raise Unauthenticated(
                "no API key: send it as `Authorization: Bearer KEY`", code="missing_api_key"
            )
        # A clock tells nothing of a key: digests are looked up, and nobody can steer towards one.
        found = self._principals.get(hashlib.sha256(presented).digest())
        if found is None:
            raise Unauthenticated("this API key is not one of the gateway's")
        return found


def _principal(name: str, key: Key) -> Principal:
    priority = Priority[key.max_priority.upper()]
    return Principal(name, key.models, max_priority=priority, admin=key.admin)


def _presented(headers: Fields) -> bytes | None:
    value = headers.first(b"authorization")
    if value is not None:
        scheme, _, token = value.partition(b" ")
        if scheme.lower() == b"bearer" and token.strip():
            return token.strip()
    # Anthropic's SDK sends its key in a header of its own.
    return headers.first(b"x-api-key")


def _refuse_foreign_pages(headers: Fields) -> None:
    """Raises `Forbidden` for a request that a page from elsewhere has a browser send.

    It names itself in `Origin`, also where it got here by a name of its own that now points to
    this machine (DNS rebinding), which makes it look like our own to the browser.
    """
    origin = headers.first(b"origin")
    if origin is not None and not _is_local(origin.decode("latin-1")):
        raise Forbidden(
            f"the page {origin.decode('latin-1')[:100]!r} may not use a gateway without keys: "
            "set `keys`, or ask from a page of this machine",
            code="foreign_origin",
        )


def _is_local(origin: str) -> bool:
    try:
        host = urlsplit(origin).hostname or ""
        return host == "localhost" or host.endswith(".localhost") or ip_address(host).is_loopback
    except ValueError:
        return False
