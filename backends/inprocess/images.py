"""Bytes of an image to a picture that a model can look at. Pure; takes long, so no event loop.

Rules of this file:

- Its size is read from its head, and refused, before a pixel is decoded: a few kilobytes can stand
  for gigapixels, or for a line that becomes them once it is scaled.
- Bytes say what they are; what the client calls them counts for nothing.
- Pillow decodes, and is imported when there is a picture: it comes with what lets a model see.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
from collections.abc import Iterator
from typing import TYPE_CHECKING, NamedTuple

from backends.base import RequestRefused
from backends.inprocess.refusals import Code, refusal, refuse

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 80_000_000
"""Of all pictures of a request. Below it no warning of Pillow's own is reached."""
MAX_ASPECT = 200
"""How many times longer one side may be than the other, as Qwen's processors have it. Others blow
the shorter side up to a size of their own first: of 1 x 30000 pixels CLIP's makes gigabytes."""
FORMATS = ("PNG", "JPEG", "WEBP", "GIF", "BMP")
_DEEP = ("I", "F")
"""How Pillow's modes of more than 8 bits a channel begin; they are all of one channel."""


class Picture(NamedTuple):
    """One picture of a request."""

    pixels: Image
    """RGB, the right way up; of an animation, its first frame."""
    digest: bytes
    """SHA-256 of what was sent; the same for the same picture."""
    where: str = "messages"
    """The field it came in."""


def read_picture(data: bytes, where: str, *, room: int = MAX_PIXELS) -> Picture:
    """The picture that `data` is, of at most `room` pixels.

    Raises `RequestRefused`, which names `where`.
    """
    with _refusing(where, room):
        image = _opened(data, where, room)
        image.load()
        _turn_upright(image)
        pixels = _as_rgb(image)
    return Picture(pixels, hashlib.sha256(data).digest(), where)


def pixels_of(data: bytes, where: str, *, room: int = MAX_PIXELS) -> int:
    """How many pixels the picture has that `data` is, from its head; raises as `read_picture`."""
    with _refusing(where, room):
        width, height = _opened(data, where, room).size
    return width * height


@contextlib.contextmanager
def _refusing(where: str, room: int) -> Iterator[None]:
    """Whatever goes wrong with a stranger's picture is refused."""
    try:
        yield
    except RequestRefused:
        raise
    except _bombs():
        raise _too_large(where, "by far", room) from None
    except Exception as error:  # a decoder of strangers' bytes may fail in any way
        said = str(error) or type(error).__name__
        raise refusal(where, f"holds a broken image: {said}", code=Code.IMAGE_BROKEN) from None


def _opened(data: bytes, where: str, room: int) -> Image:
    """It, with nothing of it decoded."""
    from PIL import Image, UnidentifiedImageError  # noqa: PLC0415

    if not data:
        refuse(where, "holds an empty image", code=Code.EMPTY_IMAGE)
    try:
        image: Image.Image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        refuse(where, f"must hold one of {', '.join(FORMATS)}", code=Code.IMAGE_FORMAT)
    width, height = image.size
    if width * height > room:
        raise _too_large(where, f"{width} x {height} pixels", room)
    if max(width, height) > MAX_ASPECT * min(width, height):
        what = f"of {width} x {height} pixels: one side may be {MAX_ASPECT} times the other at most"
        refuse(where, f"holds an image {what}")
    return image


def _turn_upright(image: Image) -> None:
    """Turn it as a camera that was held sideways saw it."""
    from PIL import ImageOps  # noqa: PLC0415

    # What is beside the pixels may be anything, and harms none of them.
    with contextlib.suppress(Exception):
        ImageOps.exif_transpose(image, in_place=True)


def _as_rgb(image: Image) -> Image:
    """Eight bits each of red, green and blue; what one can see through has white behind it."""
    from PIL import Image  # noqa: PLC0415

    if image.mode.startswith(_DEEP):
        image = _of_eight_bits(image)
    if not image.has_transparency_data:
        return image if image.mode == "RGB" else image.convert("RGB")
    seen = image if image.mode == "RGBA" else image.convert("RGBA")
    white = Image.new("RGB", seen.size, "white")
    white.paste(seen, mask=seen.getchannel("A"))  # to composite them would take two more of these
    return white


def _of_eight_bits(image: Image) -> Image:
    """Grey of sixteen bits: Pillow would cut off whatever is above the lowest eight."""
    from PIL import Image  # noqa: PLC0415

    wide = image.convert("I")
    return wide.point(lambda value: value * (1 / 257)).convert("L", dither=Image.Dither.NONE)


def _bombs() -> tuple[type[Exception], ...]:
    """What Pillow says of its own to pictures that are far too large; a warning where it is one."""
    from PIL import Image  # noqa: PLC0415

    return Image.DecompressionBombError, Image.DecompressionBombWarning


def _too_large(where: str, size: str, room: int) -> RequestRefused:
    most = f"{MAX_PIXELS // 1_000_000} million"
    left = "" if room == MAX_PIXELS else f", and {room} of them are left for this one"
    what = f"holds too large an image ({size}): those of a request may have {most} pixels{left}"
    return refusal(where, what, code=Code.IMAGE_TOO_LARGE)
