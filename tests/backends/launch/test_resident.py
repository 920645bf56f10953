from __future__ import annotations

import asyncio
import sys

from backends.launch.resident import resident_bytes
from backends.process import ChildProcess

HOLD = """
import os, time
held = b"x" * {size}
os.fork()
os.write(1, b"held\\n")
time.sleep(600)
"""


async def test_all_of_the_group_counts():
    said: list[str] = []
    child = ChildProcess((sys.executable, "-uc", HOLD.format(size=50_000_000)), log=said.append)
    await child.start()
    assert child.pid is not None
    try:
        while len(said) < 2:
            await asyncio.sleep(0.01)
        held = resident_bytes(child.pid)
        assert held is not None
        assert held > 60_000_000
    finally:
        await child.stop()
    assert resident_bytes(child.pid) is None
