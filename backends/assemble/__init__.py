"""Make of a stream the one answer that the engine would have given without streaming."""

from __future__ import annotations

from backends.assemble.assembler import Assembler, BrokenStreamError, EngineSaysError
from backends.assemble.choices import ChoicesAssembler
from backends.assemble.messages import MessagesAssembler
from backends.assemble.responses import ResponsesAssembler
from backends.base import Endpoint

__all__ = ["STREAMED", "Assembler", "BrokenStreamError", "EngineSaysError", "assembler_for"]

STREAMED = frozenset((Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES))
"""The endpoints that stream."""


def assembler_for(endpoint: Endpoint, choices: int = 1) -> Assembler | None:
    """The assembler for a stream of `endpoint`; None where that endpoint does not stream.

    `choices` is how many answers were asked for (`n`).
    """
    if endpoint in (Endpoint.CHAT, Endpoint.COMPLETIONS):
        return ChoicesAssembler(choices)
    if endpoint is Endpoint.RESPONSES:
        return ResponsesAssembler()
    if endpoint is Endpoint.MESSAGES:
        return MessagesAssembler()
    return None
