"""What a client asks of the gateway itself, in headers that no engine sees. Pure.

A value that means nothing is refused: a client that believes in a deadline which nobody keeps is
worse off than one that is told.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from types import MappingProxyType

from backends.units import Timeout
from gateway.api.headers import Headers
from gateway.errors import BadRequest
from gateway.routing.admission import Priority
from gateway.routing.principal import Principal

TIMEOUT = "x-gateway-timeout"
PRIORITY = "x-gateway-priority"

_PREFIX = b"x-gateway-"
_PREFIX_LENGTH = len(_PREFIX)
_NONE: Mapping[str, str] = MappingProxyType({})
_SECONDS = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?")
_SHOWN = 40


def of_gateway(headers: Headers) -> Mapping[str, str]:
    """The headers that speak to the gateway, mostly none; of one given twice, the last."""
    found = [header for header in headers if header[0][:_PREFIX_LENGTH] == _PREFIX]
    if not found:
        return _NONE
    return {name.decode("latin-1"): value.decode("latin-1").strip() for name, value in found}


def timeout(wishes: Mapping[str, str]) -> float | None:
    """Seconds within which the whole answer is wanted; None where none is said.

    Raises `BadRequest` for what is no time above zero.
    """
    text = wishes.get(TIMEOUT)
    if text is None:
        return None
    try:
        return float(Timeout.parse(f"{text}s" if _SECONDS.fullmatch(text) else text))
    except ValueError:
        raise BadRequest(
            f"{TIMEOUT}: expected seconds above zero or a duration, such as 30, 2.5 or 500ms; "
            f"found {text[:_SHOWN]!r}",
            param=TIMEOUT,
            code="invalid_header",
        ) from None


def priority(wishes: Mapping[str, str], principal: Principal | None) -> Priority:
    """How urgent the request is, as far as its key may say so. Raises `BadRequest`."""
    text = wishes.get(PRIORITY)
    if text is None:
        return Priority.NORMAL if principal is None else principal.usual_priority
    wanted = Priority.__members__.get(text.upper())
    if wanted is None:
        raise BadRequest(
            f"{PRIORITY}: expected high, normal or low; found {text[:_SHOWN]!r}",
            param=PRIORITY,
            code="invalid_header",
        )
    return wanted if principal is None else max(wanted, principal.max_priority)
