"""What a client asks of the gateway itself, in headers that no engine sees. Pure.

A value that means nothing is refused: a client that believes in a deadline which nobody keeps is
worse off than one that is told.
"""

from __future__ import annotations

import re

from backends.units import Timeout
from gateway.errors import BadRequest
from gateway.routing.admission import Priority
from gateway.routing.principal import Principal
from gateway.wire.fields import Fields

TIMEOUT = "x-gateway-timeout"
PRIORITY = "x-gateway-priority"

_SECONDS = re.compile(r"[0-9]{1,7}(\.[0-9]{1,9})?")
_SHOWN = 40


def timeout(headers: Fields) -> float | None:
    """Seconds within which the whole answer is wanted; None where none is said.

    Raises `BadRequest` for what is no time above zero.
    """
    text = _last(headers, TIMEOUT)
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


def priority(headers: Fields, principal: Principal | None) -> Priority:
    """How urgent the request is, as far as its key may say so. Raises `BadRequest`."""
    text = _last(headers, PRIORITY)
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


def _last(headers: Fields, name: str) -> str | None:
    """What a header says; of one given twice, the last."""
    said = headers.every(name.encode())
    return said[-1].decode("latin-1").strip() if said else None
