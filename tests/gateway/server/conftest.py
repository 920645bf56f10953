from __future__ import annotations

import pytest

from tests.support.inprocess import routing, serving
from tests.support.upstream import CHAT, scripted


@pytest.fixture
async def engine():
    async with scripted(CHAT) as upstream:
        yield upstream


@pytest.fixture
async def gateway(tmp_path, engine):
    limits = {
        "body": "64KiB",
        "headers": "4KiB",
        "header_timeout": "300ms",
        "body_timeout": "300ms",
        "write_timeout": "300ms",
    }
    document = routing(engine, server={"limits": limits, "keep_alive": "5s"})
    async with serving(tmp_path, document) as running:
        yield running
