from pathlib import Path

import pytest

from backends.inprocess.engine import Engine
from backends.mlx import model
from tests.support.gated_engine import Gate


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The model that ships."""
    return Path(__file__).parents[3] / "models" / "tiny-tale"


@pytest.fixture
async def started(model_dir):
    """An engine for two sequences and two that wait, and the gate in front of its steps."""
    engine = Engine(
        "MLX", lambda: Gate(model.load(str(model_dir), max_batch=2)), max_batch=2, max_waiting=2
    )
    gate = await engine.start()
    yield engine, gate
    gate.open.set()
    await engine.stop()
