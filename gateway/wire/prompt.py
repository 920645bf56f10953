"""What of a request an engine computes, in about the order in which it does, and may remember.

The bytes are the client's own: equal beginnings of two requests are equal here, apart from what
only a tokenizer would see. What varies without changing the prompt, such as `temperature`, is
not part of it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import msgspec

from backends.base import Endpoint
from gateway.wire.peek import Peek

_PARTS: Mapping[Endpoint, Callable[[Peek], Sequence[msgspec.Raw]]] = {
    Endpoint.CHAT: lambda peeked: (peeked.tools, peeked.messages),
    Endpoint.COMPLETIONS: lambda peeked: (peeked.prompt,),
    Endpoint.RESPONSES: lambda peeked: (peeked.tools, peeked.instructions, peeked.input),
    Endpoint.MESSAGES: lambda peeked: (peeked.tools, peeked.system, peeked.messages),
}
"""Tools stand at the beginning in most chat templates. What makes embeddings, ranks texts or
counts tokens leaves nothing behind that a later request could use."""


def prompt_of(endpoint: Endpoint, peeked: Peek) -> bytes:
    """The prompt of a request to `endpoint`; empty where no engine would remember it."""
    parts = _PARTS.get(endpoint)
    return b"" if parts is None else b"\n".join(map(memoryview, parts(peeked)))


def apart(peeked: Peek) -> tuple[str, bytes]:
    """What keeps equal prompts apart in an engine's memory: the model, and the client's salt."""
    return peeked.model, bytes(peeked.cache_salt)
