"""Tables in the documents are complete: what the code has, they name."""

from __future__ import annotations

import re
import tomllib

import pytest

from backends.base import Endpoint
from gateway import errors
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.replicas import ReplicaState
from tests.docs.conftest import ROOT, read


def _families() -> list[str]:
    """The names of the gateway's own families, as `/metrics` exposes them."""
    metrics = Metrics("1")
    metrics.watch_replicas(lambda: [ReplicaState("b", "r", ready=True, outstanding=0)])
    metrics.watch_drops("traces", lambda: 0)
    names = re.findall(r"^# TYPE (\S+)", metrics.render().decode(), re.MULTILINE)
    return [name for name in names if name.startswith(("gateway_", "gen_ai_"))]


def test_every_metric_is_documented() -> None:
    section = read("docs/operations.md").split("## Metrics")[1].split("\n## ")[0]
    documented = re.findall(r"^\| `(\w+)` \|", section, re.MULTILINE)
    assert sorted(documented) == sorted(_families())


def _statuses() -> set[int]:
    """The statuses that the gateway itself answers with."""
    found: set[int] = set()
    waiting = [errors.GatewayError]
    while waiting:
        kind = waiting.pop()
        found.add(kind.status)
        waiting += kind.__subclasses__()
    return found


def test_every_status_is_documented() -> None:
    documented = re.findall(r"^\| (\d{3}) \|", read("docs/clients.md"), re.MULTILINE)
    assert {int(status) for status in documented} == _statuses()


@pytest.mark.parametrize("document", ["README.md", "docs/clients.md"])
@pytest.mark.parametrize("endpoint", Endpoint)
def test_every_endpoint_is_documented(endpoint: Endpoint, document: str) -> None:
    assert f"/v1/{endpoint}" in read(document)


def _packages() -> list[str]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    every = [
        *project["project"]["dependencies"],
        *(one for extra in project["project"]["optional-dependencies"].values() for one in extra),
        *(one for group in project["dependency-groups"].values() for one in group),
    ]
    return sorted({re.split(r"[^\w-]", one)[0] for one in every if isinstance(one, str)})


@pytest.mark.parametrize("package", _packages())
def test_every_dependency_is_justified(package: str) -> None:
    assert re.search(
        rf"^\|.*(?<![\w-]){package}(?![\w-])", read("docs/dependencies.md"), re.MULTILINE
    )
