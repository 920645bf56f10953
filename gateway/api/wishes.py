"""What a client asks of the gateway itself, in headers that no engine sees, and how far its key
lets it go with what engines are asked. Pure.

A value that means nothing is refused: a client that believes in a deadline which nobody keeps is
worse off than one that is told.
"""

from __future__ import annotations

import re

import msgspec

from backends.malformed import MALFORMED
from backends.units import Timeout
from gateway.errors import BadRequest
from gateway.routing.admission import Priority
from gateway.routing.principal import Principal
from gateway.wire.fields import Fields
from gateway.wire.peek import Peek
from gateway.wire.rename import with_priority

TIMEOUT = "x-gateway-timeout"
PRIORITY = "x-gateway-priority"

_SECONDS = re.compile(r"[0-9]+(\.[0-9]+)?")
_SHOWN = 40


def timeout(headers: Fields) -> float | None:
    """Seconds within which the whole answer is wanted; None where none is said.

    Raises `BadRequest` for what is no time above zero, or longer than any request may take.
    """
    text = _only(headers, TIMEOUT)
    if text is None:
        return None
    try:
        return float(Timeout.parse(f"{text}s" if _SECONDS.fullmatch(text) else text))
    except ValueError:
        what = "seconds or a duration, above zero and at most 30d, such as 30, 2.5 or 500ms"
        raise _meaningless(TIMEOUT, what, text) from None


def priority(headers: Fields, principal: Principal | None) -> Priority:
    """How urgent the request is, as far as its key may say so. Raises `BadRequest`."""
    text = _only(headers, PRIORITY)
    if text is None:
        return Priority.NORMAL if principal is None else principal.usual_priority
    wanted = Priority.__members__.get(text.upper())
    if wanted is None:
        raise _meaningless(PRIORITY, "high, normal or low", text)
    return wanted if principal is None else max(wanted, principal.max_priority)


def within_rank(body: bytes, peeked: Peek, principal: Principal | None) -> bytes:
    """`body`, whose `priority` engines look at, with one no more urgent than its key may say.

    A client without a key may say what it likes, as in the header. What is no number is nobody's
    priority, and an engine's to refuse. Raises `BadRequest` where the body is no JSON after all.
    """
    if principal is None or not bytes(peeked.priority):
        return body
    most = principal.max_priority.for_engines
    try:
        said = _number(bytes(peeked.priority))
        return body if said is None or said >= most else with_priority(body, most)
    except MALFORMED as error:
        raise BadRequest(
            f"the request body is not valid JSON: {error}", code="invalid_json"
        ) from None


def _number(raw: bytes) -> float | None:
    """The number in `raw`, JSON; also one in quotes, which vLLM takes for one."""
    value = None if raw[:1] in (b"[", b"{") else msgspec.json.decode(raw)
    if isinstance(value, str):
        try:
            return float(value)
        except ValueError:
            return None
    return value if isinstance(value, int | float) else None


def _only(headers: Fields, name: str) -> str | None:
    """What a header says. Raises `BadRequest` where it is there twice: which one counts is
    anybody's guess."""
    field = name.encode()
    if field not in headers.names:
        return None
    values = headers.every(field)
    if len(values) > 1:
        what = f"{name}: expected once, found {len(values)} times"
        raise BadRequest(what, param=name, code="invalid_header")
    return values[0].decode("latin-1").strip()


def _meaningless(name: str, expected: str, text: str) -> BadRequest:
    found = "nothing" if not text else repr(text[:_SHOWN])
    return BadRequest(
        f"{name}: expected {expected}; found {found}", param=name, code="invalid_header"
    )
