"""Going on with an answer where another try at it has broken off. Pure: bytes in, bytes out."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backends.base import Endpoint
from gateway.wire.resume.choices import ChoicesTranscript
from gateway.wire.resume.messages import MessagesTranscript
from gateway.wire.resume.responses import ResponsesTranscript
from gateway.wire.resume.transcript import DivergedError, Splice, Transcript

__all__ = ["TRANSCRIPTS", "DivergedError", "Splice", "Transcript"]

TRANSCRIPTS: Mapping[Endpoint, Callable[[], Transcript]] = {
    Endpoint.CHAT: ChoicesTranscript,
    Endpoint.COMPLETIONS: ChoicesTranscript,
    Endpoint.RESPONSES: ResponsesTranscript,
    Endpoint.MESSAGES: MessagesTranscript,
}
"""What keeps the stream of an endpoint; endpoints that do not stream have none."""
