"""What is said of every kind of engine, and what can be asked of it before it is opened."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from backends.base import Adapter, Backend
    from backends.memory import Footprint


class Options(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="use"
):
    """One entry of `backends:` in routing.yaml. Subclasses add what their engine needs."""

    model: str | None = None
    """What the engine calls the model; the name the client asked for where it is not given."""

    @property
    def loras(self) -> frozenset[Adapter]:
        """The LoRA adapters that its replicas shall have."""
        return frozenset()

    def engine(self) -> Options:
        """These options without what may change while the engine runs: equal, it is kept."""
        return self

    def open(self, name: str) -> Backend:
        """Build the adapter for the backend called `name`. Imports its engine; no other I/O."""
        raise NotImplementedError

    def objection(self) -> str | None:
        """What keeps the model from being loaded, as far as its files tell. Reads files."""
        return None

    def footprint(self) -> Footprint | None:
        """What it will take of this machine's memory, where that can be told. Reads files.

        Raises `ValueError` or `OSError` for files that are broken.
        """
        return None
