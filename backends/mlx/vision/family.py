"""Which models can be shown images here, and in which way a directory is loaded. Pure.

Rules of this file:

- A model sees only if its kind is in `FAMILIES`, which says how its rows travel in a batch. What is
  not there is never tried: mlx-vlm would answer, for several rows at once, wrongly.
- What is loaded as text says why it is blind.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Literal, NamedTuple

import msgspec

EXTRA = "mlx-vlm"
"""What has to be installed."""
INSTALL = f"pip install {EXTRA} (which is what the gateway's extra `mlx-vlm` does)"
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
_EYES = ("vision_tower", "vision_model", "visual.", "vision_encoder")
"""What the names of an image encoder's weights hold."""

_IMAGE_TOKENS = 256
"""Of an image of Gemma 3 whose configuration does not say."""


class Family(NamedTuple):
    """How a kind of model takes images."""

    positions: Literal["line", "grid"] = "line"
    """`grid`: an image's tokens stand in rows and columns (M-RoPE, Wang et al. 2024), so every row
    of a batch has positions of its own."""
    whole: bool = False
    """An image's tokens look at each other in both directions, so none may be read in pieces."""
    texts: frozenset[str] | None = None
    """The kinds of text models that it may have; None for all. Others, mlx-vlm asks for one
    position for all rows (Ministral 3)."""

    flat: bool = False
    """Its text model is described at the top of config.json: mlx-vlm (0.7) looks nowhere else."""


_MISTRAL = frozenset({"mistral"})

FAMILIES: Mapping[str, Family] = {
    "gemma3": Family(whole=True),
    "idefics3": Family(),
    "llava": Family(),
    "mistral3": Family(texts=_MISTRAL),
    "pixtral": Family(texts=_MISTRAL),
    "qwen2_vl": Family(positions="grid", flat=True),
    "qwen2_5_vl": Family(positions="grid", flat=True),
    "qwen3_vl": Family(positions="grid"),
    "qwen3_vl_moe": Family(positions="grid"),
    "smolvlm": Family(),
}


class Way(msgspec.Struct, frozen=True):
    """How a directory is loaded."""

    family: Family | None = None
    """None for a model that is loaded as one of text."""
    why_blind: str = "this model takes text only"
    """What a request with images is told where it is loaded as one of text."""
    objection: str | None = None
    """What keeps it from being loaded at all."""


def choose(
    config: Mapping[str, Any],
    *,
    tensors: Collection[str],
    files: Collection[str],
    reads_text: bool,
    installed: bool,
) -> Way:
    """How the model with this config.json is loaded.

    `tensors` are the names of its weights, `files` those of its directory. `reads_text` says
    whether mlx-lm knows its kind, `installed` whether mlx-vlm is there.
    """
    kind = config.get("model_type")
    unknown = None if reads_text else f"mlx-lm does not know its model_type, {kind!r}"
    if not isinstance(config.get("vision_config"), dict):
        return Way(objection=unknown)
    family = None if config.get("model_file") else FAMILIES.get(str(kind))
    text = (config.get("text_config") or {}).get("model_type")
    if family is None or not _reads(family, text):
        kinds = ", ".join(sorted(FAMILIES))
        inner = "" if family is None else f" with one of {text!r} inside"
        why = f"images to a model of type {kind!r}{inner} are not served here; they are to {kinds}"
        return Way(why_blind=why, objection=unknown and f"{unknown}, and {why}")
    if family.flat and "hidden_size" not in config:
        why = "the text model of this copy is described in text_config, where mlx-vlm does not look"
        return Way(why_blind=why, objection=unknown and f"{unknown}, and {why}")
    if not any(eye in name for name in tensors for eye in _EYES):
        return Way(why_blind="this copy of the model holds no image encoder", objection=unknown)
    if not any(name in files for name in PROCESSOR_FILES):
        why = f"the model's directory says nothing of images: it has no {PROCESSOR_FILES[0]}"
        return Way(why_blind=why, objection=unknown)
    if not installed:
        why = f"images need {EXTRA}, which is not installed here; install it with: {INSTALL}"
        return Way(why_blind=why, objection=unknown and f"{unknown}; {EXTRA} does: {INSTALL}")
    return Way(family)


def _reads(family: Family, text: object) -> bool:
    """Whether a model of `family` with that kind of text model is served; None is the usual one."""
    return family.texts is None or text is None or text in family.texts


def longest_step(family: Family | None, config: Mapping[str, Any], usual: int) -> int:
    """How many tokens of a prompt are read at a time: all of an image that may not be cut."""
    if family is None or not family.whole:
        return usual
    text = config.get("text_config") or {}
    size = config.get("mm_tokens_per_image") or text.get("mm_tokens_per_image")
    return max(usual, size if isinstance(size, int) else _IMAGE_TOKENS)
