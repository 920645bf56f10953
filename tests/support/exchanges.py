"""What tests of the transport ask and read, and how long they wait for what follows from it."""

from __future__ import annotations

from collections.abc import Callable

import httpx

from tests.support.until import until

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nhi"
JSON = [(b"content-type", b"application/json")]


def ask(url, body=b"{}", *, method="POST", headers=(), timeout=None, uds=None):
    headers = [(b"host", b"engine"), *JSON, *headers, (b"content-length", b"%d" % len(body))]
    timeout = timeout or {"connect": 5.0, "pool": 5.0}
    return httpx.Request(
        method,
        url,
        headers=headers,
        stream=httpx.ByteStream(body),
        extensions={"timeout": timeout, "uds": uds},
    )


async def read(response):
    return b"".join([piece async for piece in response.stream])


async def fetch(transport, request):
    response = await transport.handle_async_request(request)
    return response.status_code, await read(response)


async def eventually(condition: Callable[[], object]) -> None:
    """Until `condition` holds, which has to be well before the pool's own `idle_expiry`."""
    await until(condition, within=2.0)
