"""Which routing.yaml a command is about, where none is named: the same one for every command."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

HERE = Path("routing.yaml")
HELP = "default: ./routing.yaml, or, where there is none, the model that ships"


def chosen(file: Path | None) -> Path:
    """`file`; or the one here; or, where there is none, the one that ships with the gateway."""
    if file is not None:
        return file
    if HERE.exists():
        return HERE
    return Path(str(resources.files("gateway") / "embedded" / "routing.yaml"))
