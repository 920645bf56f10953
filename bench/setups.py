"""How the gateway is set up for a benchmark: a routing.yaml made for it, and its command."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum

from bench import wire

KEY = "bench-key-0123456789abcdef"

_MODELS = 12
_KEYS = 5


class Setup(StrEnum):
    """What is switched on."""

    FULL = "full"
    """Keys, several models and variants, the access log, metrics."""
    TRACED = "traced"
    """All of that, and one request in a hundred traced to a collector."""
    BARE = "bare"
    """No keys, one model, no access log."""


def routing_yaml(setup: Setup, port: int, upstreams: Sequence[int]) -> str:
    """The configuration of a gateway on `port` before mock engines on `upstreams`."""
    replicas = ", ".join(f"http://127.0.0.1:{upstream}" for upstream in upstreams)
    lines = [
        f"server: {{host: 127.0.0.1, port: {port}, drain: {{grace: 0s, timeout: 2s}}}}",
        "backends:",
        f"  mock: {{use: openai, replicas: [{replicas}], model: {wire.ENGINE_MODEL}}}",
        f"  other: {{use: openai, replicas: [{replicas}], model: {wire.ENGINE_MODEL}}}",
        "models:",
    ]
    if setup is Setup.BARE:
        lines += [f"  {wire.CLIENT_MODEL}: {{backend: mock}}", "telemetry: {access_log: false}"]
        return "\n".join(lines) + "\n"
    lines += [
        f"  {wire.CLIENT_MODEL}:",
        "    variants:",
        "      stable: {backend: mock, weight: 95}",
        "      canary: {backend: other, weight: 5}",
        "    sticky: conversation",
        "    rules: [{when: {headers: {x-canary: yes-*}}, variant: canary}]",
        "    fallback: [model-1]",
    ]
    lines += [
        f"  model-{number}: {{backend: mock, aliases: [alias-{number}]}}"
        for number in range(1, _MODELS)
    ]
    lines += ["  qwen-*: {backend: other}", "keys:", f"  bench: {{value: {KEY}}}"]
    lines += [f"  key-{number}: {{value: another-key-{number}}}" for number in range(1, _KEYS)]
    lines += ["telemetry:", "  access_log: true"]
    if setup is Setup.TRACED:
        lines += [f"  otlp_endpoint: http://127.0.0.1:{upstreams[0]}", "  sample: 0.01"]
    return "\n".join(lines) + "\n"
