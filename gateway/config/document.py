"""A YAML file as nodes that know their lines. Hostile files end in an error, not in a hang."""

from __future__ import annotations

import re
from pathlib import Path

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

LARGEST = 1 << 20
"""Bytes; a routing table of ten thousand models is smaller."""
_MOST_NODES = 100_000
_UTF16 = (b"\xff\xfe", b"\xfe\xff")

# In `{api_key: ${KEY}}` the braces of the reference would end the mapping. They stand as
# private-use characters, one for one so that columns stay right, until the scalar is read.
_REFERENCE = re.compile(r"\$\{[^{}\n]*\}")
_PROTECT = str.maketrans("{},[]", "\ue000\ue001\ue002\ue003\ue004")
_RESTORE = str.maketrans("\ue000\ue001\ue002\ue003\ue004", "{},[]")

_STANDARD_TAG = "tag:yaml.org,2002:"


class UnreadableError(Exception):
    """The file cannot be taken as YAML at all. `line` and `column` count from 1."""

    def __init__(
        self, message: str, hint: str = "", line: int | None = None, column: int | None = None
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.line = line
        self.column = column


def read(path: Path) -> Node:
    """Read the one document in the file at `path`. Raises `UnreadableError`."""
    text = _decode(_read_bytes(path))
    try:
        root = yaml.compose(_REFERENCE.sub(_protected, text), Loader=yaml.SafeLoader)
        if root is None:
            raise UnreadableError("is empty", "it needs at least `backends` and `models`")
        _expanded_size(root, {}, frozenset())
    except yaml.MarkedYAMLError as error:
        raise _syntax_error(error) from error
    except yaml.reader.ReaderError as error:
        raise _bad_character(text, error) from error
    except RecursionError:
        raise UnreadableError("is nested too deeply") from None
    except ValueError as error:  # PyYAML lets a bad escape or number through as what it met
        raise UnreadableError("is not valid YAML") from error
    return root


def scalar_text(node: ScalarNode) -> str:
    """The text of a scalar as it was written."""
    return str(node.value).translate(_RESTORE)


def kind(node: Node) -> str:
    """The short name of the node's YAML type: `str`, `int`, `bool`, `null`, `map`, `seq` …"""
    return str(node.tag).removeprefix(_STANDARD_TAG)


def _read_bytes(path: Path) -> bytes:
    try:
        if path.is_dir():
            raise UnreadableError("is a directory", "name a file, such as routing.yaml in it")
        with path.open("rb") as file:
            raw = file.read(LARGEST + 1)
    except FileNotFoundError:
        raise UnreadableError("no such file") from None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UnreadableError(f"cannot be read: {reason}") from error
    if len(raw) > LARGEST:
        raise UnreadableError("is larger than 1 MiB", "is it the right file?")
    return raw


def _decode(raw: bytes) -> str:
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        found = "UTF-16" if raw.startswith(_UTF16) else f"the byte 0x{raw[error.start]:02x}"
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableError(
            f"expected UTF-8 text, found {found}", "save it as UTF-8", line
        ) from error


def _protected(match: re.Match[str]) -> str:
    return match[0].translate(_PROTECT)


def _syntax_error(error: yaml.MarkedYAMLError) -> UnreadableError:
    """Say what PyYAML says, without the snippet: a line may hold a secret."""
    mark = error.problem_mark or error.context_mark
    problem = error.problem or "unknown trouble"
    hint = (
        f"{error.context} at line {error.context_mark.line + 1}"
        if (error.context and error.context_mark)
        else ""
    )
    if "undefined alias" in problem:
        problem, hint = "a value with * in front refers to an anchor (&) that is not there", ""
    elif "\\t" in problem:
        problem, hint = "found a tab", "indent with spaces"
    elif "undefined tag" in problem or "tag" in (error.context or ""):
        problem, hint = "found a tag", "quote a value that begins with an exclamation mark"
    return UnreadableError(
        f"not valid YAML: {problem}",
        hint,
        mark.line + 1 if mark else None,
        mark.column + 1 if mark else None,
    )


def _bad_character(text: str, error: yaml.reader.ReaderError) -> UnreadableError:
    line = text.count("\n", 0, error.position) + 1
    code = error.character if isinstance(error.character, int) else ord(str(error.character)[0])
    return UnreadableError(f"found the control character U+{code:04X}", "remove it", line)


def _expanded_size(node: Node, sizes: dict[int, int], above: frozenset[int]) -> int:
    """Count nodes with every alias written out, each anchor once; refuse bombs and cycles."""
    if id(node) in above:
        raise UnreadableError(
            "an alias (*) refers to what it is part of", "", node.start_mark.line + 1
        )
    if id(node) in sizes:
        return sizes[id(node)]
    children: list[Node] = []
    if isinstance(node, MappingNode):
        children = [part for pair in node.value for part in pair]
    elif isinstance(node, SequenceNode):
        children = node.value
    inside = above | {id(node)}
    size = 1 + sum(_expanded_size(child, sizes, inside) for child in children)
    if size > _MOST_NODES:
        raise UnreadableError(
            f"holds more than {_MOST_NODES} values once its aliases (*) are written out",
            "",
            node.start_mark.line + 1,
        )
    sizes[id(node)] = size
    return size
