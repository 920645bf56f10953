"""What the admin API has changed about adapters, laid over what routing.yaml says. Pure.

It survives a reload of the file, and not a restart of the gateway.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from gateway.config.adapters import adapters_of, takes_adapters
from gateway.config.structs import Config


class Overlay(msgspec.Struct, frozen=True):
    """For each backend: adapters by name, with their path, or None for one that is taken away."""

    adapters: Mapping[str, Mapping[str, str | None]] = {}

    def changed(self, backend: str, adapter: str, path: str | None) -> Overlay:
        """The same with one more change."""
        mine = {**self.adapters.get(backend, {}), adapter: path}
        return Overlay({**self.adapters, backend: mine})


def users_of(config: Config, backend: str, adapter: str) -> list[str]:
    """The models that cannot be without `adapter`: a variant of theirs names it."""
    return [
        name
        for name, model in config.models.items()
        if any(
            (variant.backend, variant.adapter) == (backend, adapter)
            for variant in model.arms().values()
        )
    ]


def apply(config: Config, overlay: Overlay) -> Config:
    """`config` with the changes of `overlay`.

    Left out are those for a backend that is gone or is another kind of engine now, and taking
    away what a model of the file needs: the file is the later word.
    """
    backends = dict(config.backends)
    for backend, changes in overlay.adapters.items():
        options = backends.get(backend)
        if options is None or not takes_adapters(options):
            continue
        allowed = {
            adapter: path
            for adapter, path in changes.items()
            if path is not None or not users_of(config, backend, adapter)
        }
        adapters = {**adapters_of(options), **allowed}
        kept = {adapter: path for adapter, path in adapters.items() if path is not None}
        backends[backend] = msgspec.structs.replace(options, adapters=kept)
    return msgspec.structs.replace(config, backends=backends)
