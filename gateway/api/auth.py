"""Learn who asks: an API key makes a Principal; without keys everybody is let in."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Mapping

from gateway.api.headers import Headers, find
from gateway.config.names import Glob
from gateway.config.structs import Key
from gateway.errors import Forbidden, Unauthenticated
from gateway.routing.table import Route


class Principal:
    """Who is asking. Immutable."""

    __slots__ = ("_globs", "name")

    def __init__(self, name: str, models: tuple[str, ...]) -> None:
        self.name = name
        self._globs = tuple(Glob(model) for model in models)

    def may_use(self, model: str) -> bool:
        """Whether `model`, a name in routing.yaml, is one of this key's models."""
        return not self._globs or any(glob.matches(model) for glob in self._globs)

    def require(self, route: Route) -> None:
        """Raises `Forbidden` where this key may not use `route`."""
        if not self.may_use(route.name):
            raise Forbidden(
                f"the key {self.name!r} may not use the model {route.name!r}",
                param="model",
                code="model_not_allowed",
            )


class Authenticator:
    """Finds the principal of a request among the keys in force."""

    def __init__(self) -> None:
        self._keys: Mapping[str, Key] | None = None
        self._by_digest: dict[bytes, tuple[bytes, Principal]] = {}

    def identify(self, keys: Mapping[str, Key], headers: Headers) -> Principal | None:
        """The principal; None where the gateway is open. Raises `Unauthenticated`."""
        if not keys:
            return None
        if keys is not self._keys:  # a reload has brought others
            self._by_digest = {
                key.value.digest: (key.value.digest, Principal(name, key.models))
                for name, key in keys.items()
            }
            self._keys = keys
        presented = _presented(headers)
        if presented is None:
            raise Unauthenticated(
                "no API key: send it as `Authorization: Bearer KEY`", code="missing_api_key"
            )
        digest = hashlib.sha256(presented).digest()
        # The look-up is by hash, of which a clock tells nothing about the key; the comparison
        # that decides takes the same time whatever it finds.
        known, principal = self._by_digest.get(digest, (b"", None))
        if principal is None or not hmac.compare_digest(known, digest):
            raise Unauthenticated("this API key is not one of the gateway's")
        return principal


def _presented(headers: Headers) -> bytes | None:
    value = find(headers, b"authorization")
    if value is not None:
        scheme, _, token = value.partition(b" ")
        if scheme.lower() == b"bearer" and token.strip():
            return token.strip()
    # Anthropic's SDK sends its key in a header of its own.
    return find(headers, b"x-api-key")
