"""MLX models in this process. Importing this package does not import MLX: `start` does."""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta

from backends.base import Backend, Options


class MlxOptions(Options, frozen=True, kw_only=True, tag="mlx"):
    """An MLX model in this process: a directory, or the id of a model on the hub."""

    model: Annotated[str, Meta(min_length=1)]
    """A directory (relative to the file that names it), or a hub id such as `org/name`."""
    max_batch: Annotated[int, Meta(ge=1, le=256)] = 16
    """Sequences generated together; further requests wait."""
    max_waiting: Annotated[int, Meta(ge=0)] = 256
    """Sequences that may wait for a place in the batch; beyond it 429."""

    def open(self, name: str) -> Backend:
        """See `Options.open`. What is missing or broken shows in `start`."""
        from backends.mlx.backend import MlxBackend  # noqa: PLC0415 — only when configured

        return MlxBackend(name, self)
