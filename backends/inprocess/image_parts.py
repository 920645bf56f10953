"""Where a chat has images, and the bytes of those that it brings along. Pure.

The dialect is OpenAI's, as it is met: `{"type": "image_url", "image_url": {"url": …}}`, the URL
also as a plain text. `detail` is taken and counts for nothing: how finely a picture is looked at is
the model's affair.
"""

from __future__ import annotations

import binascii
import re
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, NoReturn

from backends.inprocess.refusals import Code, missing, refuse, shown

_TYPES = ("image_url", "input_image")
"""What the part of an image is called: by chats, and by responses."""
MAX_FILE = 24 << 20
"""Bytes of one image, as a file: what a body of the size that is allowed can bring along."""

_HEAD = 1024
"""Characters of a data URL in which its data must begin."""
_DATA_URL = re.compile(r"data:(?P<type>[^,;]*)(?P<parameters>(;[^,;]*)*),", re.IGNORECASE)
_PIECE = 1 << 18
"""Characters of base64 that are decoded at a time; a multiple of four."""
_BLANKS = " \t\r\n"
_DROPPED = str.maketrans("", "", _BLANKS)


class ImagePart(NamedTuple):
    """An image in a chat."""

    where: str
    """The field that holds its URL: `messages[2].content[1].image_url`."""
    url: str


def image_parts(messages: Iterable[Mapping[str, Any]]) -> list[ImagePart]:
    """All images of `messages`, which have been checked, in their order."""
    found = []
    for at, message in enumerate(messages):
        content = message.get("content")
        if isinstance(content, list):
            for place, part in enumerate(content):
                if is_image(part):
                    found.append(read_part(f"messages[{at}].content[{place}]", part))
    return found


def is_image(part: Mapping[str, Any]) -> bool:
    """Whether a part of a message's content is an image."""
    return part.get("type") in _TYPES


def read_part(where: str, part: Mapping[str, Any]) -> ImagePart:
    """The image of `part`. Raises `RequestRefused` where it has none."""
    where = f"{where}.image_url"
    given = part.get("image_url")
    url = given.get("url") if isinstance(given, dict) else given
    if url is None:
        missing(where)
    if not isinstance(url, str):
        refuse(where, "must be a URL, or an object with a `url`", code=Code.INVALID_TYPE)
    return ImagePart(where, url)


def is_data(image: ImagePart) -> bool:
    """Whether it comes with the request."""
    return image.url[:5].lower() == "data:"


def data_in(image: ImagePart) -> bytes:
    """What its data URL holds. Raises `RequestRefused`."""
    where, url = image
    head = _DATA_URL.match(url[:_HEAD])
    if head is None:
        refuse(where, f"is no data URL: {shown(url)}", code=Code.IMAGE_URL)
    if not head["parameters"].lower().endswith(";base64"):
        refuse(where, "must hold its data as base64: data:image/png;base64,…", code=Code.IMAGE_URL)
    data = url[head.end() :]
    if any(blank in data for blank in _BLANKS):  # to look is cheap; to drop them is not
        data = data.translate(_DROPPED)
    if len(data) // 4 * 3 > MAX_FILE + 3:
        too_long(where)
    try:
        return _decoded(data)
    except ValueError:  # `binascii.Error` is one, and so is what is not ASCII
        what = "holds data that are no base64: other signs, a wrong length, or `=` before the end"
        refuse(where, what, code=Code.IMAGE_BASE64)


def _decoded(data: str) -> bytes:
    """What `data` are, base64 whose padding may be missing. Raises `ValueError`."""
    padded = data + "=" * (-len(data) % 4)
    if "=" in padded[:-2]:
        raise ValueError("padding in the middle")
    # Piece by piece: one of them holds up all other threads.
    pieces = [padded[at : at + _PIECE] for at in range(0, len(padded), _PIECE)]
    return b"".join([binascii.a2b_base64(piece, strict_mode=True) for piece in pieces])


def too_long(where: str) -> NoReturn:
    """Say no to an image whose file is too large. Raises `RequestRefused`."""
    most = MAX_FILE >> 20
    refuse(where, f"holds an image of more than {most} MiB", code=Code.IMAGE_FILE_TOO_LARGE)
