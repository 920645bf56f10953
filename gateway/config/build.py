"""Nodes into structs: one walk, driven by the types, that notes every mistake and goes on.

What is wrong is left out of what is built, so that the checks after it can still run; a
struct that lacks what it must have is `INVALID` and left out in turn.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from functools import cache
from typing import Any

from msgspec import inspect
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from gateway.config.document import kind, scalar_text
from gateway.config.environment import expand, references, refers
from gateway.config.problems import Path, Report
from gateway.config.scalars import SECRETS, Scalar, ScalarError, convert

Pairs = dict[str, tuple[ScalarNode, Node]]

_KINDS = frozenset({"str", "int", "float", "bool", "null", "timestamp", "map", "seq", "value"})
_MERGE = "merge"
_EXTENSION = "x-"


class _Invalid(Enum):
    INVALID = "invalid"


INVALID = _Invalid.INVALID
"""In place of a value that could not be built; why is in the report."""


def build(root: Node, cls: type, env: Mapping[str, str], report: Report) -> Any:
    """Make a `cls` of the document `root`, or `INVALID`; every mistake goes into `report`."""
    return _Builder(env, report).value(root, _shape(cls), ())


@cache
def _shape(cls: type) -> inspect.Type:
    """What `cls` is made of: worked out once, which takes longer than to build one of it."""
    return inspect.type_info(cls)


class _Builder:
    def __init__(self, env: Mapping[str, str], report: Report) -> None:
        self._env = env
        self._report = report

    def value(self, node: Node, wanted: inspect.Type, path: Path, description: str = "") -> Any:
        if isinstance(wanted, inspect.Metadata):
            extra = wanted.extra_json_schema or {}
            return self.value(node, wanted.type, path, extra.get("description", ""))
        if kind(node) not in _KINDS:
            hint = "quote a value that begins with an exclamation mark"
            return self._wrong(node, path, "found a tag, which has no meaning here", hint)
        match wanted:
            case inspect.StructType():
                return self._mapping_to_struct(node, wanted, path)
            case inspect.UnionType():
                return self._union(node, wanted, path, description)
            case inspect.DictType():
                return self._dict(node, wanted, path)
            case inspect.VarTupleType():
                return self._tuple(node, wanted, path)
        return self._scalar(node, wanted, path, description)

    # Mappings

    def _mapping_to_struct(self, node: Node, wanted: inspect.StructType, path: Path) -> Any:
        if not isinstance(node, MappingNode):
            return self._wrong_kind(node, path, "a mapping", wanted)
        return self._struct(self._pairs(node, path), wanted, path)

    def _struct(self, pairs: Pairs, wanted: inspect.StructType, path: Path) -> Any:
        fields = {field.encode_name: field for field in wanted.fields}
        self._refuse_unknown(pairs, [*fields, *_tag_fields(wanted)], path)
        values: dict[str, Any] = {}
        whole = True
        for name, field in fields.items():
            built = INVALID
            if name in pairs:
                built = self._entry(pairs[name], field.type, (*path, name))
            elif field.required:
                self._report.add((*path, name), "is missing", _purpose(field.type))
            if built is not INVALID:
                values[field.name] = built
            elif field.required:
                whole = False
        return wanted.cls(**values) if whole else INVALID

    def _refuse_unknown(self, pairs: Pairs, known: list[str], path: Path) -> None:
        for name, (key, _) in pairs.items():
            if name in known or (not path and name.startswith(_EXTENSION)):
                continue
            self._wrong(key, (*path, name), "unknown key", self._report.suggest(name, known))

    def _dict(self, node: Node, wanted: inspect.DictType, path: Path) -> Any:
        if not isinstance(node, MappingNode):
            return self._wrong_kind(node, path, "a mapping of names", wanted.value_type)
        pairs = self._pairs(node, path)
        if len(pairs) < (wanted.min_length or 0):
            return self._wrong(node, path, "expected at least one entry, found none")
        built = {}
        for name, (key, child) in pairs.items():
            inside = (*path, name)
            value = self._entry((key, child), wanted.value_type, inside)
            if self._name(key, wanted.key_type, inside) and value is not INVALID:
                built[name] = value
        return built

    def _name(self, key: ScalarNode, wanted: inspect.Type, path: Path) -> bool:
        """Check a key of a dict; references are for values only."""
        if refers(scalar_text(key)):
            self._wrong(key, path, "environment variables are read in values, not in names")
            return False
        return self.value(key, wanted, path) is not INVALID

    def _entry(self, pair: tuple[ScalarNode, Node], wanted: inspect.Type, path: Path) -> Any:
        key, child = pair
        place = child if isinstance(child, ScalarNode) and scalar_text(child) else key
        self._place(path, place)
        return self.value(child, wanted, path)

    def _pairs(self, node: MappingNode, path: Path) -> Pairs:
        """The keys of a mapping, with those that `<<` brings in; its own win."""
        own: Pairs = {}
        merged: Pairs = {}
        for key, child in node.value:
            if kind(key) == _MERGE:
                for name, pair in self._merged(child, path).items():
                    merged.setdefault(name, pair)
                continue
            if not isinstance(key, ScalarNode):
                self._wrong(key, path, "expected a name as the key, found a list or a mapping")
                continue
            name = scalar_text(key)
            if name in own:
                first = own[name][0].start_mark.line + 1
                self._wrong(key, (*path, name), "is here twice", f"first at line {first}")
                continue
            own[name] = (key, child)
        return {**merged, **own}

    def _merged(self, node: Node, path: Path) -> Pairs:
        sources = node.value if isinstance(node, SequenceNode) else [node]
        merged: Pairs = {}
        for source in sources:
            if isinstance(source, MappingNode):
                merged = {**self._pairs(source, path), **merged}
            else:
                self._wrong(source, (*path, "<<"), "expected an alias of a mapping, such as *base")
        return merged

    # Unions

    def _union(self, node: Node, wanted: inspect.UnionType, path: Path, description: str) -> Any:
        options = [one for one in wanted.types if not isinstance(one, inspect.NoneType)]
        if len(options) < len(wanted.types) and kind(node) == "null":
            return None
        if len(options) == 1:
            return self.value(node, options[0], path, description)
        structs = [one for one in options if isinstance(one, inspect.StructType)]
        if len(structs) == len(options):
            return self._tagged(node, {str(one.tag): one for one in structs}, path)
        if structs and any(map(_is_list, options)):
            return self._struct_or_list(node, options, path)
        if structs:
            return self._struct_or_scalar(node, options, path, description)
        return self._list_or_scalar(node, options, path, description)

    def _struct_or_scalar(
        self, node: Node, options: list[inspect.Type], path: Path, description: str
    ) -> Any:
        """A value of the option that a mapping fits, or of the other, in short; never a list."""
        is_struct = isinstance(node, MappingNode)
        (wanted,) = [one for one in options if isinstance(one, inspect.StructType) is is_struct]
        return self.value(node, wanted, path, description)

    def _struct_or_list(self, node: Node, options: list[inspect.Type], path: Path) -> Any:
        """A value of the option that a mapping fits, or else of the list."""
        is_list = not isinstance(node, MappingNode)
        (wanted,) = [one for one in options if _is_list(one) is is_list]
        return self.value(node, wanted, path)

    def _list_or_scalar(
        self, node: Node, options: list[inspect.Type], path: Path, description: str
    ) -> Any:
        """A value of the option that a list fits, or of the other; what it is tells which."""
        is_list = isinstance(node, SequenceNode)
        if isinstance(node, ScalarNode):  # text is a list that lacks its brackets
            is_list = kind(node) == "str" and not refers(scalar_text(node))
        (wanted,) = [one for one in options if _is_list(one) is is_list]
        return self.value(node, wanted, path, description)

    def _tagged(self, node: Node, kinds: dict[str, inspect.StructType], path: Path) -> Any:
        """A struct of the kind that the mapping's own tag field, such as `use`, names."""
        first = next(iter(kinds.values()))
        if not isinstance(node, MappingNode):
            return self._wrong_kind(node, path, "a mapping", first)
        pairs = self._pairs(node, path)
        field = str(first.tag_field)
        if field not in pairs:
            self._report.add((*path, field), "is missing", f"one of {', '.join(kinds)}")
            return INVALID
        wanted = inspect.LiteralType(values=tuple(kinds))
        tag = self._entry(pairs[field], wanted, (*path, field))
        return INVALID if tag is INVALID else self._struct(pairs, kinds[tag], path)

    # Lists and scalars

    def _tuple(self, node: Node, wanted: inspect.VarTupleType, path: Path) -> Any:
        if not isinstance(node, SequenceNode):
            hint = _as_list(node) if isinstance(node, ScalarNode) else ""
            return self._wrong_kind(node, path, "a list", wanted.item_type, hint)
        if len(node.value) < (wanted.min_length or 0):
            return self._wrong(node, path, "expected at least one entry, found none")
        items = []
        for position, child in enumerate(node.value):
            self._place((*path, position), child)
            items.append(self.value(child, wanted.item_type, (*path, position)))
        kept = [position for position, item in enumerate(items) if item is not INVALID]
        self._report.keep(path, kept)
        return tuple(items[position] for position in kept)

    def _scalar(self, node: Node, wanted: inspect.Type, path: Path, description: str) -> Any:
        if not isinstance(node, ScalarNode):
            return self._wrong_kind(node, path, "a single value", wanted)
        written = scalar_text(node)
        reference = refers(written)
        try:
            text = expand(written, self._env) if reference else written
            scalar = Scalar(
                written=written,
                text=text,
                kind="str" if reference else kind(node),
                quoted=node.style is not None and not reference,
                origin=references(written),
            )
            return convert(scalar, wanted, description)
        except ScalarError as error:
            return self._wrong(node, path, error.message, error.hint)
        except ValueError as error:
            return self._wrong(node, path, str(error))

    # Mistakes

    def _wrong_kind(
        self, node: Node, path: Path, expected: str, wanted: inspect.Type, hint: str = ""
    ) -> Any:
        found = "a mapping" if isinstance(node, MappingNode) else "a list"
        if isinstance(node, ScalarNode):
            if kind(node) == "null":
                found, hint = "nothing", "fill it, or leave the line out"
            elif _holds_secret(wanted):
                found = "a single value"
            else:
                found = Scalar(scalar_text(node), "", kind(node), False).shown()
        return self._wrong(node, path, f"expected {expected}, found {found}", hint)

    def _wrong(self, node: Node, path: Path, message: str, hint: str = "") -> Any:
        mark = node.start_mark
        self._report.add_at(path, mark.line + 1, mark.column + 1, message, hint)
        return INVALID

    def _place(self, path: Path, node: Node) -> None:
        self._report.place(path, node.start_mark.line + 1, node.start_mark.column + 1)


def _is_list(wanted: inspect.Type) -> bool:
    bare = wanted.type if isinstance(wanted, inspect.Metadata) else wanted
    return isinstance(bare, inspect.VarTupleType)


def _tag_fields(wanted: inspect.StructType) -> list[str]:
    return [wanted.tag_field] if wanted.tag_field else []


def _as_list(node: ScalarNode) -> str:
    """A hint, where the scalar is short and without credentials: fit to be repeated."""
    text = scalar_text(node)
    fit = kind(node) == "str" and 0 < len(text) <= 64 and "@" not in text
    return f"write [{text}]" if fit else ""


def _holds_secret(wanted: inspect.Type) -> bool:
    match wanted:
        case inspect.Metadata():
            return _holds_secret(wanted.type)
        case inspect.CustomType():
            return wanted.cls in SECRETS
        case inspect.StructType():
            return any(_holds_secret(field.type) for field in wanted.fields)
        case inspect.UnionType():
            return any(map(_holds_secret, wanted.types))
        case inspect.DictType():
            return _holds_secret(wanted.value_type)
        case inspect.VarTupleType():
            return _holds_secret(wanted.item_type)
    return False


def _purpose(wanted: inspect.Type) -> str:
    """What would have to be there, where the type can say it."""
    match wanted:
        case inspect.Metadata():
            return str((wanted.extra_json_schema or {}).get("description", ""))
        case inspect.VarTupleType():
            item = _purpose(wanted.item_type)
            return f"a list, each item {item}" if item else "a list"
        case inspect.DictType():
            return "a mapping of names"
    return ""
