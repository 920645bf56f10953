from __future__ import annotations

import pytest

from tests.support.inprocess import routing, serving
from tests.support.upstream import CHAT, scripted


@pytest.fixture
async def engine():
    """An engine that answers every chat."""
    async with scripted(CHAT) as upstream:
        yield upstream


@pytest.fixture
async def gateway(tmp_path, engine):
    """A gateway without keys, with a small limit on bodies."""
    server = {"limits": {"body": "64KiB", "body_timeout": "200ms"}}
    async with serving(tmp_path, routing(engine, server=server)) as running:
        yield running
