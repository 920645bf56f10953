"""What of a text's hidden states becomes its embedding. Pure."""

from __future__ import annotations

from typing import Literal

Pooling = Literal["mean", "last", "cls"]
"""The mean over its tokens, the last of them, or the first."""


def chosen_pooling(option: str, said: Pooling | None) -> Pooling:
    """`option`, or where that is `auto` what the model has `said`, else the mean."""
    match option:
        case "mean" | "last" | "cls":
            return option
    return said or "mean"
