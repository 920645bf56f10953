"""One scalar of a file into one value of the type that is wanted there."""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from typing import Any

import msgspec
from msgspec import inspect

from backends.secret import Secret
from backends.units import Duration, Size, Timeout
from gateway.config.key_hash import KeyHash
from gateway.config.problems import did_you_mean

_INTEGER = re.compile(r"[+-]?[0-9]{1,18}")
_NUMBER = re.compile(r"[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,3})?")
_CREDENTIALS = re.compile(r"//\S*@")
_BOOLEANS = {"true": True, "false": False}
_SHOWN = 64


class Scalar(msgspec.Struct, frozen=True):
    """A scalar as it stands in the file, and what it comes to."""

    written: str
    """As written, with its references: safe to show where no secret may be."""
    text: str
    """With the references replaced."""
    kind: str
    """What YAML takes it for: `str`, `int`, `float`, `bool`, `null`, `timestamp`."""
    quoted: bool
    """In quotes, and without references: text and nothing else."""
    origin: str = ""
    """The references in it, without their defaults: safe to show anywhere."""

    def shown(self) -> str:
        """For a message: what was found, without credentials."""
        if self.kind == "null" and not self.text:
            return "nothing"
        if self.kind in ("int", "float", "bool") and not self.quoted:
            return self.written[:_SHOWN]
        short = self.written if len(self.written) <= _SHOWN else self.written[:_SHOWN] + "…"
        return msgspec.json.encode(_CREDENTIALS.sub("//…@", short)).decode()


class ScalarError(ValueError):
    """The scalar does not fit. `message` says what was expected and found."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


def engine_secret(text: str, origin: str = "") -> Secret:
    """Wrap a credential for an engine, and the variables that it is `origin`ally from. Raises
    `ValueError`, which does not quote it."""
    if not text:
        raise ValueError("is empty; is the environment variable set?")
    if not (text.isascii() and text.isprintable()):
        raise ValueError("holds a line break or a character that no header can carry")
    return Secret(text, origin)


PARSERS: dict[type, Callable[[str], object]] = {
    Duration: Duration.parse,
    Timeout: Timeout.parse,
    Size: Size.parse,
    KeyHash: KeyHash.of,
    Secret: engine_secret,
}
"""How the types that are the gateway's own are read; each raises `ValueError` with what would
be right, and does not quote what it was given."""

SECRETS = (KeyHash, Secret)
"""Types whose text is shown in no message."""


def convert(scalar: Scalar, wanted: inspect.Type, description: str = "") -> object:
    """Turn `scalar` into a value of `wanted`. Raises `ScalarError`."""
    match wanted:
        case inspect.BoolType():
            return _boolean(scalar)
        case inspect.IntType() | inspect.FloatType():
            return _number(scalar, wanted)
        case inspect.LiteralType():
            return _literal(scalar, wanted)
        case inspect.EnumType():
            values = tuple(member.value for member in wanted.cls)
            return wanted.cls(_literal(scalar, inspect.LiteralType(values)))
        case inspect.CustomType():
            return _custom(scalar, wanted.cls)
        case inspect.StrType():
            return _string(scalar, wanted, description)
    raise TypeError(f"no way to read a {wanted}")


def _boolean(scalar: Scalar) -> bool:
    value = None if scalar.quoted else _BOOLEANS.get(scalar.text.lower())
    if value is None:
        raise ScalarError(f"expected true or false, found {scalar.shown()}")
    return value


def _number(scalar: Scalar, wanted: inspect.IntType | inspect.FloatType) -> float:
    whole = isinstance(wanted, inspect.IntType)
    text = scalar.text.strip()
    if not (_INTEGER if whole else _NUMBER).fullmatch(text):
        raise ScalarError(f"expected {_range(wanted)}, found {scalar.shown()}")
    if scalar.quoted:
        raise ScalarError(f"expected {_range(wanted)}, found text", f"write {text} without quotes")
    value = int(text) if whole else float(text)
    if (
        not math.isfinite(value)
        or (wanted.ge is not None and value < wanted.ge)
        or (wanted.le is not None and value > wanted.le)
    ):
        raise ScalarError(f"expected {_range(wanted)}, found {scalar.shown()}")
    return value


def _range(wanted: inspect.IntType | inspect.FloatType) -> str:
    what = "a whole number" if isinstance(wanted, inspect.IntType) else "a number"
    if wanted.ge is not None and wanted.le is not None:
        return f"{what} from {wanted.ge} to {wanted.le}"
    return what if wanted.ge is None else f"{what} of at least {wanted.ge}"


def _literal(scalar: Scalar, wanted: inspect.LiteralType) -> object:
    if scalar.text in wanted.values:
        return scalar.text
    choices = [str(value) for value in wanted.values]
    raise ScalarError(
        f"expected one of {', '.join(choices)}, found {scalar.shown()}",
        _near(scalar.written, choices),
    )


def _near(word: str, choices: list[str]) -> str:
    """A guess, but no list: the message has that already."""
    hint = did_you_mean(word, choices)
    return hint if hint.startswith("did") else ""


def _custom(scalar: Scalar, cls: type[Any]) -> object:
    if scalar.kind == "null" and not scalar.text:
        raise ScalarError("expected a value, found nothing")
    try:
        if cls is Secret:
            return engine_secret(scalar.text, scalar.origin)
        return PARSERS[cls](scalar.text)
    except ValueError as error:
        found = "" if cls in SECRETS else f", found {scalar.shown()}"
        raise ScalarError(f"{error}{found}") from None


def _string(scalar: Scalar, wanted: inspect.StrType, description: str) -> str:
    if scalar.kind == "null":
        raise ScalarError(f"expected {description or 'text'}, found nothing")
    fits = wanted.pattern is None or _fits(wanted.pattern, scalar.text)
    if scalar.kind in ("int", "float", "bool") and fits:
        what = {"bool": "a boolean"}.get(scalar.kind, "a number")
        raise ScalarError(
            f"expected {description or 'text'}, found {what}",
            f'in quotes it is text: "{scalar.text}"',
        )
    if wanted.min_length is not None and len(scalar.text) < wanted.min_length:
        raise ScalarError(f"expected {description or 'text'}, found nothing")
    if wanted.max_length is not None and len(scalar.text) > wanted.max_length:
        raise ScalarError(
            f"expected at most {wanted.max_length} characters, found {len(scalar.text)}"
        )
    if not fits:
        raise ScalarError(f"expected {description or wanted.pattern}, found {scalar.shown()}")
    return scalar.text


def _fits(pattern: str, text: str) -> bool:
    """Like JSON Schema, but `$` does not overlook a line break at the end, as `re` does."""
    return re.search(pattern, text) is not None and not text.endswith("\n")
