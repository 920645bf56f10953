"""Pictures as files and as what clients send."""

from __future__ import annotations

import base64
import io
import struct
import zlib
from typing import Any

from PIL import Image


def file(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def plain(colour: Any = "red", *, size: tuple[int, int] = (32, 32), mode: str = "RGB") -> bytes:
    """A PNG of one colour."""
    return file(Image.new(mode, size, colour))


def png(width: int, height: int, body: bytes = b"") -> bytes:
    """A PNG that says it has that size; `body` are its pixels, lines with a 0 in front."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(body))
        + chunk(b"IEND", b"")
    )


def data_url(data: bytes, media: str = "image/png") -> str:
    return f"data:{media};base64,{base64.b64encode(data).decode()}"


def part(url: str | bytes = b"") -> dict[str, Any]:
    """A part of a chat message."""
    if isinstance(url, bytes):
        url = data_url(url or plain())
    return {"type": "image_url", "image_url": {"url": url}}


def user(*content: Any) -> dict[str, Any]:
    """A message of texts and parts."""
    parts = [{"type": "text", "text": one} if isinstance(one, str) else one for one in content]
    return {"role": "user", "content": parts}
