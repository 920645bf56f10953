from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def model_dir() -> Path:
    """The model that ships."""
    return Path(__file__).parents[3] / "models" / "tiny-tale"
