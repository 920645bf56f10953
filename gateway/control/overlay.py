"""What lies over what routing.yaml says: adapters that the admin API has changed, and replicas that
were discovered. Pure.

It survives a reload of the file, and not a restart of the gateway. The file is the later word: a
change that does not go with it is passed over, as long as that is so.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from backends.options import Discover, HttpOptions, WeightedReplica
from gateway.config.adapters import adapters_of, takes_adapters
from gateway.config.checks import objection
from gateway.config.structs import Config


class Change(msgspec.Struct, frozen=True):
    """One adapter of one backend, told by their names."""

    backend: str
    adapter: str


class Overlay(msgspec.Struct, frozen=True):
    """The latest change of each adapter, in the order in which they were made."""

    paths: Mapping[Change, str | None] = {}
    """Where it is now; None for one that is taken away."""

    replicas: Mapping[tuple[str, Discover], Sequence[str | WeightedReplica]] = {}
    """Of a backend, what was found where it says."""

    def changed(self, change: Change, path: str | None) -> Overlay:
        """The same with one more change."""
        others = {one: where for one, where in self.paths.items() if one != change}
        return Overlay({**others, change: path}, self.replicas)

    def found(
        self, backend: str, discover: Discover, replicas: Sequence[str | WeightedReplica]
    ) -> Overlay:
        """The same with other replicas of `backend`, in place of those found elsewhere."""
        others = {key: known for key, known in self.replicas.items() if key[0] != backend}
        return Overlay(self.paths, {**others, (backend, discover.source): tuple(replicas)})


class Overlaid(msgspec.Struct, frozen=True):
    """A configuration with an overlay on it."""

    config: Config
    passed_over: Mapping[Change, str] = {}
    """What was left out because the rest does not go with it, and why."""


def apply(config: Config, overlay: Overlay) -> Overlaid:
    """`config`, which has been checked, with the changes of `overlay`.

    Left out, without a word, are those for a backend that is gone or is another kind of engine now.
    """
    config = whole = _with_replicas(config, overlay)
    for change, path in overlay.paths.items():
        whole = _with(whole, change, path)
    if whole == config or objection(whole) is None:
        return Overlaid(whole)
    passed_over = {}
    for change, path in overlay.paths.items():  # one by one, to find out which
        changed = _with(config, change, path)
        why = None if changed == config else objection(changed)
        if why is None:
            config = changed
        else:
            passed_over[change] = why
    return Overlaid(config, passed_over)


def _with_replicas(config: Config, overlay: Overlay) -> Config:
    """None of a backend whose replicas have not been found yet."""
    backends = dict(config.backends)
    for name, options in config.backends.items():
        if isinstance(options, HttpOptions) and options.discover is not None:
            found = overlay.replicas.get((name, options.discover.source), ())
            backends[name] = msgspec.structs.replace(options, replicas=tuple(found))
    return msgspec.structs.replace(config, backends=backends)


def _with(config: Config, change: Change, path: str | None) -> Config:
    options = config.backends.get(change.backend)
    if options is None or not takes_adapters(options):
        return config
    adapters = {**adapters_of(options), change.adapter: path}
    kept = {adapter: where for adapter, where in adapters.items() if where is not None}
    backend = msgspec.structs.replace(options, adapters=kept)
    return msgspec.structs.replace(config, backends={**config.backends, change.backend: backend})
