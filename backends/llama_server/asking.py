"""A request that llama-server can stop working on.

That is one for a stream, with a piece for each part of the prompt. Pure: bytes in, bytes out.
"""

from __future__ import annotations

import msgspec

from backends.assemble import Assembler, assembler_for
from backends.base import Endpoint, Request
from backends.malformed import MALFORMED

_TRUE = msgspec.Raw(b"true")
_WITH_USAGE = msgspec.Raw(b'{"include_usage":true}')
_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_count = msgspec.json.Decoder(int).decode
_encode = msgspec.json.encode


def as_stream(request: Request) -> tuple[Request, Assembler] | None:
    """`request` for a stream and what assembles that; None where only the engine can answer."""
    try:
        fields = _decode_fields(request.body)
        choices = _decode_count(fields["n"]) if "n" in fields else 1
    except MALFORMED:
        return None  # the engine has the words for what is wrong with it
    assembler = assembler_for(request.endpoint, choices)
    if assembler is None:
        return None
    fields["stream"] = fields["return_progress"] = _TRUE
    if request.endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        fields["stream_options"] = _WITH_USAGE
    body = _encode(fields)
    return msgspec.structs.replace(request, body=body, stream=True), assembler


def with_progress(request: Request) -> Request | None:
    """`request`, to be told of the work on its prompt; None where that is the client's affair.

    The other dialects tell it in events that they cannot do without.
    """
    if request.endpoint not in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        return None
    try:
        fields = _decode_fields(request.body)
    except MALFORMED:
        return None
    if "return_progress" in fields:
        return None
    fields["return_progress"] = _TRUE
    return msgspec.structs.replace(request, body=_encode(fields))
