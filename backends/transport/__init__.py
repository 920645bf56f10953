"""The data-plane transport: httpx's types over asyncio and httptools, without httpx's cost.

Call `Transport.handle_async_request` directly with an `httpx.Request`; `httpx.AsyncClient.send`
over it works too and costs twice as much. `Transport.exchange` is the same without httpx's types,
for the one place that sends every request of the data plane.

- `exchange`: one answer, from its first byte to its last, and the back-pressure on it
- `connection`: one HTTP/1.1 connection and its parser
- `dial`: how a connection to an origin is made
- `pool`: the connections to one origin
- `transport`: what callers see; encodes requests and retries stale connections
"""

from backends.transport.pool import Pool, PoolLimits
from backends.transport.transport import Transport, check_head

__all__ = ["Pool", "PoolLimits", "Transport", "check_head"]
