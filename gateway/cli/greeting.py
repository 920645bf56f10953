"""What `gateway serve` says when it is ready: where it is, and how to try it. Pure."""

from __future__ import annotations

import json
import shlex

from gateway.config.names import is_glob
from gateway.config.structs import Config
from gateway.control.readiness import ReadinessReport

_SHOWN = 10
"""Models that are named; more would fill the screen."""
_ANY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Addresses that can be listened on but, on some systems, not called."""
_QUESTION = "What is the capital of Spain?"


def ready(config: Config, host: str, port: int, seconds: float, said: ReadinessReport) -> list[str]:
    """Where the gateway listens, since `seconds` after its start, and what can be asked there."""
    address = f"ready: base_url={_base_url(host, port)} after {seconds:.1f} s"
    if not said.ready:
        states = [f"{name}: {state}" for name, state in list(said.models.items())[:_SHOWN]]
        return [f"not {address}: {said.reason}", *states]
    lines = [address]
    listed = [name for name, model in config.models.items() if model.public]
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    lines.append(f"models: {', '.join(listed[:_SHOWN])}{more}")
    asked = next((name for name in listed if not is_glob(name)), None)
    if asked is not None:
        url = _base_url(_ANY_ADDRESS.get(host, host), port)
        lines.append(f"try it: {_curl(url, asked, keyed=bool(config.keys))}")
    return lines


def _base_url(host: str, port: int) -> str:
    return f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"


def _curl(url: str, model: str, *, keyed: bool) -> str:
    body = json.dumps({"model": model, "messages": [{"role": "user", "content": _QUESTION}]})
    key = " -H 'Authorization: Bearer KEY'" if keyed else ""
    return (
        f"curl {shlex.quote(f'{url}/chat/completions')}{key} -H 'Content-Type: application/json' "
        f"-d {shlex.quote(body)}"
    )
