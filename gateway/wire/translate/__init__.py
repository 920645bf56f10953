"""Other dialects, said as chats: for engines that have `/v1/chat/completions` and nothing else.

Bytes in, bytes out. What a chat can say is said; what it cannot is refused with the field's name,
before anybody is asked. Nothing is dropped that would change the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from backends.base import Endpoint
from gateway.wire.translate.messages_request import MessagesTranslation
from gateway.wire.translate.responses_request import ResponsesTranslation
from gateway.wire.translate.translation import StreamTranslator, Translation
from gateway.wire.translate.writer import Identity

__all__ = ["TRANSLATIONS", "Identity", "StreamTranslator", "Translation"]

TRANSLATIONS: Mapping[Endpoint, Callable[[bytes], Translation]] = {
    Endpoint.RESPONSES: ResponsesTranslation,
    Endpoint.MESSAGES: MessagesTranslation,
    Endpoint.COUNT_TOKENS: MessagesTranslation,
}
"""What makes a chat of a request to an endpoint. Raises `BadRequest`."""
