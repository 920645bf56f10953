"""What is in force of a configuration's keys, as routing.yaml would say it: what differs from the
defaults apart from what does not. Pure.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

import msgspec
from msgspec import NODEFAULT

from backends.units import Duration, Size


class Settings(NamedTuple):
    """Keys with their values, such as `retry: {attempts: 5}`."""

    own: tuple[str, ...]
    """Those that differ from the defaults."""
    usual: tuple[str, ...]
    """Those that do not."""


def settings(
    one: msgspec.Struct, leave_out: Collection[str] = (), like: msgspec.Struct | None = None
) -> Settings:
    """The keys of `one`, each of its parts taken apart in the same way. What is usual is what its
    kind has by default, or what `like` has."""
    own: list[str] = []
    usual: list[str] = []
    for field in msgspec.structs.fields(one):
        if field.name in leave_out:
            continue
        value = getattr(one, field.name)
        default = _default(field) if like is None else getattr(like, field.name)
        if isinstance(value, msgspec.Struct) and type(value) is type(default):
            inner = settings(value, like=default)
            own += _group(field.encode_name, inner.own)
            usual += _group(field.encode_name, inner.usual)
        else:
            (usual if value == default else own).append(f"{field.encode_name}: {written(value)}")
    return Settings(tuple(own), tuple(usual))


def written(value: object) -> str:
    """A value as it would stand in the file; of a struct, all that it says."""
    match value:
        case None:
            return "none"
        case bool():
            return "true" if value else "false"
        case Duration() | Size():
            return value.written()
        case float():
            return f"{value:g}"
        case msgspec.Struct():
            fields = msgspec.structs.asdict(value).items()
            said = [f"{name}: {written(each)}" for name, each in fields if each is not None]
            return f"{{{', '.join(said)}}}"
        case tuple():
            return f"[{', '.join(map(written, value))}]"
    return str(value)


def _default(field: msgspec.structs.FieldInfo) -> object:
    if field.default_factory is not NODEFAULT:
        return field.default_factory()
    return field.default


def _group(name: str, inner: tuple[str, ...]) -> list[str]:
    return [f"{name}: {{{', '.join(inner)}}}"] if inner else []
