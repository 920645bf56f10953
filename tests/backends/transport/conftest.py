from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
import uvloop

from backends.transport import Transport


def pytest_asyncio_loop_factories(config, item):
    """What is true on one event loop must be true on the other."""
    return {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


@pytest.fixture
async def transport() -> AsyncIterator[Transport]:
    transport = Transport()
    yield transport
    await transport.aclose()
    assert transport.connections == 0
