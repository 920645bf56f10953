"""docs/clients.md names every `code` that an error can have, beside its status."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

import pytest

from backends.inprocess.refusals import Code
from gateway import errors
from gateway.dispatch.turned_away import OVER_BUDGET
from gateway.dispatch.verdict import DEADLINE_EXCEEDED
from gateway.routing.admission import Reason
from tests.docs.conftest import ROOT, read

_SECTION = read("docs/clients.md").partition("\n## Errors\n")[2].partition("\n## ")[0]
_CODE = re.compile(r"[a-z]+(_[a-z0-9]+)*")


def documented() -> dict[int, str]:
    """The `code` column of the table of errors, by status; a row without a status goes on with the
    one above."""
    found: dict[int, str] = {}
    status = 0
    for cells in re.findall(r"^\| (\d{3})? ?\|([^|]*)\|([^|]*)\|", _SECTION, re.MULTILINE):
        status = int(cells[0] or status)
        found[status] = found.get(status, "") + cells[2]
    return found


DOCUMENTED = documented()
IN_TABLE = set(re.findall(r"`(\w+)`", " ".join(DOCUMENTED.values())))


def kinds() -> Iterator[type[errors.GatewayError]]:
    waiting = [errors.GatewayError]
    while waiting:
        kind = waiting.pop()
        yield kind
        waiting += kind.__subclasses__()


@pytest.mark.parametrize("kind", [one for one in kinds() if one.code], ids=lambda one: one.__name__)
def test_codes_stand_beside_their_status(kind: type[errors.GatewayError]) -> None:
    assert f"`{kind.code}`" in DOCUMENTED[kind.status]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        *((429, reason.value) for reason in Reason),
        (429, OVER_BUDGET),
        (504, DEADLINE_EXCEEDED),
        *((400, code.value) for code in Code),
    ],
)
def test_codes_by_another_name_stand_beside_their_status(status: int, code: str) -> None:
    assert f"`{code}`" in DOCUMENTED[status]


def written(tree: ast.AST) -> Iterator[str]:
    """The codes that a source spells out: `code="…"` in a call, or `code = "…"`."""
    for node in ast.walk(tree):
        values: list[ast.expr] = []
        if isinstance(node, ast.Call):
            values = [one.value for one in node.keywords if one.arg == "code"]
        elif isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "code":
            values = [node.value]
        for value in values:
            if isinstance(value, ast.IfExp):
                values += [value.body, value.orelse]
            elif isinstance(value, ast.Constant) and isinstance(value.value, str):
                yield value.value


@pytest.mark.slow
def test_every_code_that_is_spelled_out_is_documented() -> None:
    found: dict[str, str] = {}
    for package in ("gateway", "backends"):
        for source in sorted((ROOT / package).rglob("*.py")):
            for code in written(ast.parse(source.read_text("utf-8"))):
                found.setdefault(code, str(source.relative_to(ROOT)))
    assert "empty_string" in found
    assert "shutting_down" in found
    missing = {code: where for code, where in found.items() if f"`{code}`" not in _SECTION}
    assert not missing, "docs/clients.md does not say what these codes mean"


def test_nothing_is_documented_that_no_error_has() -> None:
    sources = "".join(
        source.read_text("utf-8")
        for package in ("gateway", "backends")
        for source in (ROOT / package).rglob("*.py")
    )
    codes = {code for code in IN_TABLE if _CODE.fullmatch(code)}
    assert {code for code in codes if f'"{code}"' not in sources} == set()
