"""Places that a configuration names: what a path means, and what is said where nothing is there.

A path is seen from where the file is, and `~/` is the home of whoever runs the gateway. Directories
are looked at, and nothing is opened. What is wrong is a `ValueError`, for people.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path

import msgspec

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_TAGGED_HUB_ID = re.compile(_HUB_ID.pattern + r"(:[\w.-]+)?")
_PATH_STARTS = ("./", "../", "/", "~/")
_SHOWN = 64
"""Characters that are quoted of what may be anything."""


class Place(msgspec.Struct, frozen=True):
    """What a path has been found to mean; neither a file nor a directory where nothing is there."""

    path: Path
    is_file: bool
    is_dir: bool


def absolute(path: str, base: Path, env: Mapping[str, str]) -> Path:
    """`path`, as seen from `base`. Raises `ValueError`."""
    if "\0" in path:
        raise ValueError("holds a NUL character")
    home = env.get("HOME")
    return base / (home + path[1:] if home and path.startswith("~/") else path)


def look(path: str, base: Path, env: Mapping[str, str]) -> Place:
    """What is there. Raises `ValueError`."""
    place = absolute(path, base, env)
    try:
        return Place(place, place.is_file(), place.is_dir())
    except OSError as error:
        raise ValueError(f'"{path[:_SHOWN]}" cannot be looked at: {error.strerror}') from None


def hub_id(
    text: str, place: Path, *, what: str, endings: tuple[str, ...] = (), tagged: bool = False
) -> str:
    """`text`, which is nothing at `place`, as the id of a model on the hub. Raises `ValueError`.

    `what` could have been there, whose names may have `endings`. With `tagged`, a part of the
    repository may be named behind a colon.
    """
    if (
        text.startswith(_PATH_STARTS)
        or text.endswith(endings)
        or ("/" in text and place.parent.is_dir())
    ):
        raise ValueError(f"there is no {what} {place}{near(place)}")
    if not (_TAGGED_HUB_ID if tagged else _HUB_ID).fullmatch(text):
        raise ValueError(
            f'"{text[:_SHOWN]}" is neither a {what} beside this file nor a hub id such as org/name'
        )
    return text


def ggufs_in(folder: Path) -> list[Path]:
    """The GGUF files in a directory, by name."""
    return sorted(folder.glob("*.gguf"))


def near(place: Path) -> str:
    """What to say of a thing beside `place`, where nothing is, that is called nearly so."""
    try:
        siblings = [path.name for path in place.parent.iterdir()]
    except OSError:  # it is not there, or not ours to read
        return ""
    names = get_close_matches(place.name, siblings, n=1)
    return f'; did you mean "{names[0]}"?' if names else ""
