"""Which environment variables hold a secret of routing.yaml: no engine is to inherit them. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from backends.options import HttpOptions
from gateway.config.key_hash import KeyHash
from gateway.config.structs import Config


def secret_variables(config: Config, env: Mapping[str, str]) -> frozenset[str]:
    """Names in `env` whose value is a key of a client, or the `api_key` of an engine.

    Told by the value, so also where the file does not read it from there. What `launch.env` reads
    is an engine's own, and others may need it too: a token for the hub.
    """
    hashes = {key.value for key in config.keys.values()}
    tokens = {
        one.api_key.reveal()
        for one in config.backends.values()
        if isinstance(one, HttpOptions) and one.api_key is not None
    }
    return frozenset(
        name for name, value in env.items() if value in tokens or _is_one_of(hashes, value)
    )


def _is_one_of(hashes: set[KeyHash], value: str) -> bool:
    try:
        return bool(hashes) and KeyHash.of(value) in hashes
    except ValueError:  # too short, or otherwise no key
        return False
