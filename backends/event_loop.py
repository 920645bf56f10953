"""Which event loop a process of ours runs on: uvloop where there is one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """What `asyncio.Runner` takes; None for asyncio's own loop."""
    try:
        import uvloop  # noqa: PLC0415
    except ImportError:  # there is none for Windows
        return None
    return uvloop.new_event_loop
