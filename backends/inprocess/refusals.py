"""What an engine in this process says of a request that it cannot take: one style, one place.

Rules of this file:

- A refusal names the field, by its path (`messages[2].content`), says what is wrong with it and
  what would be right, in the words of the gateway: no library's message gets out as it is.
- Codes are OpenAI's, as far as they are known. The gateway's own refusals have the same.
- What comes from a client is shown in part only: it may be megabytes.
"""

from __future__ import annotations

import re
from enum import StrEnum
from typing import NoReturn

import msgspec

from backends.base import RequestRefused

_SHOWN = 64
"""Characters of a client's value."""


class Code(StrEnum):
    """Tells a program what is wrong with a field."""

    INVALID_TYPE = "invalid_type"
    INVALID_VALUE = "invalid_value"
    MISSING = "missing_required_parameter"
    EMPTY_ARRAY = "empty_array"
    EMPTY_STRING = "empty_string"
    ARRAY_TOO_LONG = "array_above_max_length"
    INTEGER_TOO_LOW = "integer_below_min_value"
    INTEGER_TOO_HIGH = "integer_above_max_value"
    DECIMAL_TOO_LOW = "decimal_below_min_value"
    DECIMAL_TOO_HIGH = "decimal_above_max_value"
    CONTEXT_EXCEEDED = "context_length_exceeded"
    EMPTY_IMAGE = "empty_image_file"
    IMAGE_BASE64 = "invalid_base64_image"
    IMAGE_BROKEN = "image_parse_error"
    IMAGE_DOWNLOAD = "failed_to_download_image"
    IMAGE_FILE_TOO_LARGE = "image_file_too_large"
    IMAGE_FORMAT = "invalid_image_format"
    IMAGE_TOO_LARGE = "image_too_large"
    IMAGE_URL = "invalid_image_url"
    INVALID_JSON = "invalid_json"
    INVALID_SCHEMA = "invalid_schema"
    """Ours: a schema that no answer can be held to."""
    UNSUPPORTED = "unsupported"
    """Ours: another engine may do it."""


def refusal(param: str, what: str, *, code: Code = Code.INVALID_VALUE) -> RequestRefused:
    """A 400 that says "`param` what"."""
    return RequestRefused(400, f"`{param}` {what}", param=param, code=code)


def refuse(param: str, what: str, *, code: Code = Code.INVALID_VALUE) -> NoReturn:
    """Say no to the client: "`param` what". Raises `RequestRefused`."""
    raise refusal(param, what, code=code)


def unsupported(param: str, why: str) -> NoReturn:
    """What `param` asks for cannot be done here. Raises `RequestRefused`."""
    raise RequestRefused(400, f"`{param}`: {why}", param=param, code=Code.UNSUPPORTED)


def missing(param: str) -> NoReturn:
    """`param` has to be there. Raises `RequestRefused`."""
    refuse(param, "is missing", code=Code.MISSING)


def check_range(param: str, value: int | None, *, least: int, most: int | None = None) -> None:
    """Refuse a whole number that is not in `least` to `most`; None is one that is not given."""
    if value is None:
        return
    if value < least:
        refuse(param, f"must be at least {least}, not {shown(value)}", code=Code.INTEGER_TOO_LOW)
    if most is not None and value > most:
        refuse(param, f"must be at most {most}, not {shown(value)}", code=Code.INTEGER_TOO_HIGH)


def shown(value: object) -> str:
    """The beginning of what a client sent, as Python spells it."""
    if isinstance(value, list | dict):
        return _WORDS[type(value).__name__]
    if isinstance(value, int) and value.bit_length() > _SHOWN:
        return "a number beyond all bounds"  # Python refuses to write those of thousands of digits
    text = repr(value[: _SHOWN + 1] if isinstance(value, str) else value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


# ---- what the decoder says ----

_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "a text",
    "bool": "true or false",
    "array": "a list",
    "list": "a list",
    "object": "an object",
    "dict": "an object",
    "null": "null",
}
_AT = re.compile(r"(?P<what>.*?)(?: - at `\$\.?(?P<path>.*)`)?", re.DOTALL)
_TYPE = re.compile(r"Expected `(?P<wanted>[^`]+)`, got `(?P<got>[^`]+)`")
_BOUND = re.compile(r"Expected `(?P<type>int|float)` (?P<sign>[<>])=? ?(?P<bound>\S+)")
_MISSING = re.compile(r"Object missing required field `(?P<field>[^`]+)`")
_ENUM = re.compile(r"Invalid enum value (?P<value>.*)", re.DOTALL)
_ANY_KEY = "[...]"
"""How msgspec writes the path of a value in an object whose keys may be any."""


def of_decoder(error: msgspec.ValidationError) -> RequestRefused:
    """What to say of a body that is JSON, and not of the type that it should be."""
    found = _AT.fullmatch(str(error))
    what, path = (found["what"], found["path"] or "") if found else (str(error), "")
    if lacks := _MISSING.fullmatch(what):
        param = f"{path}.{lacks['field']}" if path else lacks["field"]
        return refusal(param, "is missing", code=Code.MISSING)
    told, code = _told(what)
    if not path:
        return RequestRefused(400, f"the request body {told}", code=code)
    if path.endswith(_ANY_KEY):
        path = path.removesuffix(_ANY_KEY)
        message = f"every value of `{path}` {told}"
        return RequestRefused(400, message, param=path, code=code)
    return refusal(path, told, code=code)


def of_bytes(error: Exception) -> RequestRefused:
    """What to say of a body that is no JSON."""
    message = f"the request body is not valid JSON: {error}"
    return RequestRefused(400, message, code=Code.INVALID_JSON)


def _told(what: str) -> tuple[str, Code]:
    """What the decoder found, behind the name of the field."""
    if wrong := _TYPE.fullmatch(what):
        wanted = [kind for kind in wrong["wanted"].split(" | ") if kind != "null"]
        kinds = " or ".join(_WORDS.get(kind, kind) for kind in wanted)
        got = _WORDS.get(wrong["got"], wrong["got"])
        return f"must be {kinds}, not {got}", Code.INVALID_TYPE
    if bound := _BOUND.fullmatch(what):
        low = bound["sign"] == ">"
        limit = f"at {'least' if low else 'most'} {float(bound['bound']):g}"
        if bound["type"] == "int":
            return f"must be {limit}", Code.INTEGER_TOO_LOW if low else Code.INTEGER_TOO_HIGH
        return f"must be {limit}", Code.DECIMAL_TOO_LOW if low else Code.DECIMAL_TOO_HIGH
    if enum := _ENUM.fullmatch(what):
        return f"may not be {enum['value'][:_SHOWN]}", Code.INVALID_VALUE
    return f"is not accepted: {what[:1].lower()}{what[1:]}", Code.INVALID_VALUE
