"""`${NAME}` and `${NAME:-default}` in values; `$${` stands for a literal `${`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from difflib import get_close_matches

_OPEN = "${"
_REFERENCE = re.compile(r"\$(\$\{)|\$\{([A-Za-z_][A-Za-z0-9_]*)(?::-([^}]*))?\}|(\$\{)")


def refers(text: str) -> bool:
    """Whether `text` has something for `expand` to do."""
    return _OPEN in text


def expand(text: str, env: Mapping[str, str]) -> str:
    """Put the values of variables in. A default serves where one is unset or empty.

    Raises `ValueError`, naming every variable that is missing and quoting no value.
    """
    missing: list[str] = []

    def value(match: re.Match[str]) -> str:
        escaped, name, default, malformed = match.groups()
        if escaped:
            return _OPEN
        if malformed:
            raise ValueError("expected ${NAME} or ${NAME:-default}; write $${ for a literal ${")
        if default is not None:
            return env.get(name) or default
        if name not in env:
            missing.append(name)
            return ""
        return env[name]

    expanded = _REFERENCE.sub(value, text)
    if missing:
        raise ValueError("; ".join(_unset(name, env) for name in dict.fromkeys(missing)))
    return expanded


def references(text: str) -> str:
    """The variables that `text` refers to, as `${NAME}`, and nothing else of it."""
    names = (match[2] for match in _REFERENCE.finditer(text) if match[2])
    return ", ".join(f"${{{name}}}" for name in dict.fromkeys(names))


def _unset(name: str, env: Mapping[str, str]) -> str:
    near = get_close_matches(name, env, n=1, cutoff=0.7)
    advice = f"did you mean ${{{near[0]}}}?" if near else f"set it, or write ${{{name}:-default}}"
    return f"the environment variable {name} is not set; {advice}"
