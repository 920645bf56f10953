"""What of a request an engine computes, in about the order in which it does, and may remember.

The bytes are the client's own: equal beginnings of two requests are equal here, apart from what
only a tokenizer would see. What varies without changing the prompt, such as `temperature`, is
not part of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise

import msgspec

from backends.base import Endpoint
from gateway.wire.peek import Peek

_PAGE = 4096
"""Bytes of text: about a thousand tokens, and what a picture counts as."""
_is_data = re.compile(rb"[A-Za-z0-9+/]{64}").match

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


def size_of(prompt: bytes) -> int:
    """Bytes of text that give an engine about as much to compute: a picture counts as a page.

    Told from a look at every page: a search for pictures would take longer than all else here.
    """
    if len(prompt) <= _PAGE:
        return len(prompt)
    pages = [_is_data(prompt, at) is not None for at in range(0, len(prompt), _PAGE)]
    if True not in pages:
        return len(prompt)
    pictures = sum(now and not before for before, now in pairwise([False, *pages]))
    return len(prompt) - (sum(pages) - pictures) * _PAGE


def apart(peeked: Peek) -> tuple[str, bytes]:
    """What keeps equal prompts apart in an engine's memory: the model, and the client's salt."""
    return peeked.model, bytes(peeked.cache_salt)
