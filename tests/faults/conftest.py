from __future__ import annotations

import pytest
import uvloop

pytest.register_assert_rewrite("tests.faults.cell")


def pytest_asyncio_loop_factories(config, item):
    """The loop that the gateway runs on."""
    return {"uvloop": uvloop.new_event_loop}
