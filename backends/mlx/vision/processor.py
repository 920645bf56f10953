"""What a checkpoint's own processor makes of a picture: tokens and arrays.

Rules of this file:

- Pictures go through it one by one. So it is known which tokens are whose, and the arrays of one
  are never padded to those of another.
- One at a time: the tokenizers inside change state while they are called.
- Code that comes with a checkpoint is not run.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL.Image import Image as Pixels
from PIL.Image import new as new_pixels
from transformers import AutoProcessor

from backends.mlx.vision.sight import Image

_TRIED = (64, 48)
"""Pixels of the picture that is tried at the start."""
_PLAIN: dict[str, Any] = {"add_special_tokens": False}


class Seen(NamedTuple):
    """What a picture comes to."""

    image: Image
    text: str
    """What stands for it in the text, in place of the placeholder."""


class PictureProcessor:
    """A model's processor. Importing this file imports transformers and Pillow."""

    def __init__(self, directory: Path, *, most_pixels: int) -> None:
        """After mlx-vlm's module of that kind of model: that says which processor it is.

        Where that takes pictures of any size, they are shrunk to `most_pixels`. Raises whatever it
        raises where it cannot be used, as it may need more than is here.
        """
        load: Any = AutoProcessor.from_pretrained
        self._processor = load(directory, trust_remote_code=False, local_files_only=True)
        images = self._processor.image_processor
        if isinstance(limit := getattr(images, "max_pixels", None), int):
            images.max_pixels = min(limit, most_pixels)
        self._lock = threading.Lock()
        self.token = int(self._processor.image_token_id)
        """What is filled in with what is seen."""
        boi = getattr(self._processor, "boi_token", None)
        self.placeholder: str = boi or self._processor.image_token
        """What a template writes for a picture."""
        self._options = _PLAIN
        self._around: tuple[int, ...] = ()
        try:
            self._tokens_and_arrays(new_pixels("RGB", _TRIED))
        except TypeError:  # LLaVA's hands all options on to what makes the arrays
            self._options = {}
            self._around = tuple(self._processor.tokenizer("")["input_ids"])
            self._tokens_and_arrays(new_pixels("RGB", _TRIED))

    def see(self, pixels: Pixels, digest: bytes) -> Seen:
        """What `pixels` come to. Raises whatever the processor raises, for odd shapes for one."""
        with self._lock:
            tokens, arrays = self._tokens_and_arrays(pixels)
            text = self._processor.tokenizer.decode(
                tokens, skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        return Seen(Image(digest, tokens, self.token, arrays), text)

    def _tokens_and_arrays(self, pixels: Pixels) -> tuple[list[int], dict[str, Any]]:
        made = self._processor(text=[self.placeholder], images=[pixels], **self._options)
        # As NumPy's: they are handed to another thread, which MLX's own need not like.
        arrays = {name: np.array(value) for name, value in made.items() if value is not None}
        tokens: list[int] = arrays.pop("input_ids")[0].tolist()
        arrays.pop("attention_mask", None)
        if "pixel_values" not in arrays or self.token not in tokens:
            raise ValueError("the model's processor makes nothing of a picture")
        return self._inner(tokens), arrays

    def _inner(self, tokens: list[int]) -> list[int]:
        """Without what a tokenizer puts around a text by itself."""
        return [token for token in tokens if token not in self._around]


def spliced(rendered: str, placeholder: str, texts: Sequence[str]) -> str:
    """`rendered` with `texts` in place of its placeholders, in order.

    Raises `ValueError` where it does not have as many.
    """
    parts = rendered.split(placeholder)
    if len(parts) - 1 != len(texts):
        raise ValueError(f"{len(parts) - 1} placeholders for {len(texts)} images")
    return parts[0] + "".join(text + part for text, part in zip(texts, parts[1:], strict=True))
