"""What a client asks for, as the attempt loop needs to know it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import inf

import msgspec

from backends.base import Endpoint, Header
from backends.capabilities import Capability
from gateway.dispatch.as_chat import AsChat, as_chat
from gateway.dispatch.verdict import DEADLINE_EXCEEDED, TOTAL_TIMEOUT
from gateway.dispatch.watchdog import Watchdog
from gateway.policies import Prefix
from gateway.policies.prefix_blocks import block_hashes
from gateway.routing.admission import Priority
from gateway.routing.principal import Principal
from gateway.routing.table import Route, Table
from gateway.telemetry.record import RequestRecord
from gateway.telemetry.tracing import RequestSpan
from gateway.wire.fields import Fields
from gateway.wire.peek import Peek
from gateway.wire.prompt import apart, prompt_of, size_of


class Ask(msgspec.Struct, kw_only=True):
    """One client's request. Made by the API layer, which owns `record` and `watchdog`."""

    endpoint: Endpoint
    body: bytes
    peeked: Peek
    """The fields of `body` that routing needs."""
    model: str
    """The name the client asked for."""
    stream: bool
    """Whether the client wants server-sent events."""
    needs: frozenset[Capability]
    """What an engine must be capable of to serve it as it came."""
    client_headers: Fields
    """All of the client's headers: rules look at them."""
    engine_headers: Sequence[Header]
    """Those that an engine may see."""
    table: Table
    """The table of the moment the request was complete; it is kept to the end."""
    route: Route
    principal: Principal | None
    """Who is asking; None where the gateway is open."""
    record: RequestRecord
    span: RequestSpan
    watchdog: Watchdog
    timeout: float | None = None
    """Seconds in which the client wants it all, from its first byte on; None where it says none."""
    deadline: float = inf
    """When they are over, in the watchdog's time."""
    priority: Priority = Priority.NORMAL
    """How urgent it is, where requests wait for their turn."""
    on_content: Callable[[], None] | None = None
    """Called when an answer in one piece begins to be made, where its adapter shows that."""
    overtaken: bool = False
    """Set where another attempt was faster, just before this one is cancelled."""
    chat: AsChat | None = None
    """See `as_chat`, which remembers it here."""
    hashed: Prefix | None = None
    """See `prefix`, which remembers it here."""

    @property
    def key_name(self) -> str | None:
        """The name of the key that was used."""
        return None if self.principal is None else self.principal.name

    def limit(self, deadline: float) -> tuple[str, float]:
        """Why the whole of it must be over by `deadline`, and of how many seconds that is the end.

        Moments are compared: the client's time began with its first byte, the route's when the
        request was complete.
        """
        if self.timeout is not None and self.deadline <= deadline:
            return DEADLINE_EXCEEDED, self.timeout
        return TOTAL_TIMEOUT, self.route.timeouts.total

    def as_chat(self) -> AsChat:
        """The request as a chat, for engines that do not speak its dialect: made once."""
        if self.chat is None:
            self.chat = as_chat(self.endpoint, self.body, self.needs)
        return self.chat

    def prefix(self) -> Prefix:
        """The prompt, for policies that look at its beginning: made once."""
        if self.hashed is None:
            prompt = prompt_of(self.endpoint, self.peeked)
            blocks = block_hashes(prompt, hash(apart(self.peeked)))
            self.hashed = Prefix(size_of(prompt), blocks)
        return self.hashed
