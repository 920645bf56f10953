"""What a client asks in another dialect, said as a chat: what that takes, or why it cannot be."""

from __future__ import annotations

import msgspec

from backends.base import Endpoint
from backends.capabilities import Capability
from gateway.errors import BadRequest
from gateway.wire.needs import needs
from gateway.wire.peek import peek
from gateway.wire.translate import TRANSLATIONS, Translation


class AsChat(msgspec.Struct, frozen=True, kw_only=True):
    """One request as a chat; of `translation` and `refusal`, one is there."""

    translation: Translation | None = None
    needs: frozenset[Capability]
    """What an engine must be capable of to serve it so. A chat shows it more clearly."""
    refusal: BadRequest | None = None
    """`Unsupported` where an engine that speaks the dialect may do it, `BadRequest` where none can,
    because the request itself is wrong."""


def as_chat(endpoint: Endpoint, body: bytes, visible: frozenset[Capability]) -> AsChat:
    """`body`, a request to `endpoint`, of which is `visible` as it stands that it needs that."""
    try:
        translation = TRANSLATIONS[endpoint](body)
        if endpoint is Endpoint.COUNT_TOKENS:
            return AsChat(translation=translation, needs=visible)  # nobody is to answer it
        asked = needs(Endpoint.CHAT, peek(Endpoint.CHAT, translation.body), translation.body)
    except BadRequest as refusal:
        return AsChat(needs=visible, refusal=refusal)
    return AsChat(translation=translation, needs=visible | (asked - {Capability.CHAT}))
