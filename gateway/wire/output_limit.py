"""How long an answer may be, by what the request says: read where a route has a latency budget."""

from __future__ import annotations

import msgspec

from backends.malformed import MALFORMED
from gateway.wire import lenient


class _Limits(msgspec.Struct, frozen=True):
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None


_decode = lenient.decoder(_Limits)


def output_limit(body: bytes) -> int | None:
    """The tokens that the answer to `body`, a request in any dialect, may have; None for no end."""
    try:
        said = _decode(body)
    except MALFORMED:
        return None
    limits = (said.max_tokens, said.max_completion_tokens, said.max_output_tokens)
    return min((limit for limit in limits if limit is not None and limit >= 0), default=None)
