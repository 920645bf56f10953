"""Pictures of requests: what a client sent, as something that a model can look at."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from PIL.Image import Image


class Picture(NamedTuple):
    """One picture of a request."""

    pixels: Image
    """RGB, the right way up."""
    digest: bytes
    """SHA-256 of what was sent; the same for the same picture."""
