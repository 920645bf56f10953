"""The files in deploy/ fit the gateway that they deploy."""

from __future__ import annotations

import re
from configparser import ConfigParser
from pathlib import Path
from typing import Any

import pytest
import yaml

from backends.options import Launch
from gateway import config
from gateway.config.structs import Drain, Server
from tests.docs.conftest import ROOT, read

_LAST_EVENTS = 10
"""Seconds for what is cut to be told, spans to be sent, and engines to stop."""


@pytest.fixture(scope="module")
def manifests() -> dict[str, Any]:
    found = yaml.safe_load_all(read("deploy/kubernetes.yaml"))
    return {manifest["kind"]: manifest for manifest in found}


@pytest.fixture
def configured(manifests: dict[str, Any], tmp_path: Path) -> config.Config:
    file = tmp_path / "routing.yaml"
    file.write_text(manifests["ConfigMap"]["data"]["routing.yaml"], encoding="utf-8")
    return config.load(file, {"ALICE_KEY": "sk-secret-1234"})


def _needed(drain: Drain) -> float:
    return drain.grace + drain.timeout + _LAST_EVENTS


def test_kubernetes_waits_for_the_drain(
    manifests: dict[str, Any], configured: config.Config
) -> None:
    pod = manifests["Deployment"]["spec"]["template"]["spec"]
    assert pod["terminationGracePeriodSeconds"] >= _needed(configured.server.drain)
    probe = pod["containers"][0]["readinessProbe"]
    noticed = probe["periodSeconds"] * probe["failureThreshold"] + probe["timeoutSeconds"]
    assert noticed < configured.server.drain.grace


def test_kubernetes_asks_where_the_gateway_answers(
    manifests: dict[str, Any], configured: config.Config
) -> None:
    (container,) = manifests["Deployment"]["spec"]["template"]["spec"]["containers"]
    (port,) = container["ports"]
    assert port["containerPort"] == configured.server.port
    assert container["livenessProbe"]["httpGet"] == {"path": "/health", "port": port["name"]}
    assert container["readinessProbe"]["httpGet"] == {"path": "/ready", "port": port["name"]}
    # The image's own command names the file; the volume must put it there.
    assert container["volumeMounts"][0]["mountPath"] + "/routing.yaml" in read("deploy/Dockerfile")
    assert manifests["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]


def test_systemd_waits_for_the_drain() -> None:
    unit = ConfigParser(strict=False, interpolation=None, allow_no_value=True)
    unit.optionxform = str  # type: ignore[assignment, method-assign]
    unit.read_string(read("deploy/llm-gateway.service"))
    service = unit["Service"]
    longest = Launch(model="any").stop_timeout
    assert int(service["TimeoutStopSec"]) >= _needed(Drain()) + longest
    assert service["KillMode"] == "mixed", "SIGTERM would end engines before their streams"
    assert service["StateDirectory"]
    assert service["ExecStart"].split()[1] == "serve"
    assert service["ExecReload"].startswith("/bin/kill -HUP")


def test_the_image_is_built_of_what_is_there() -> None:
    text = read("deploy/Dockerfile")
    ignored = read("deploy/Dockerfile.dockerignore")
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.MULTILINE):
        for source in sources.split():
            assert (ROOT / source).exists(), source
            assert f"!{source}" in ignored.splitlines(), source
    assert f"EXPOSE {Server().port}" in text
