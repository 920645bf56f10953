"""Every fault, in every house: what the client sees, what the engine sees, and what is left.

A cell takes a tenth of a second, and there are a thousand. The quick ones are those of chats with
one replica, of the faults that every dialect goes through.
"""

from __future__ import annotations

import pytest

from tests.faults.cell import check, check_everywhere
from tests.faults.clients import CHAT, OTHERS
from tests.faults.houses import KINDS
from tests.faults.outcomes import NoCells
from tests.faults.table import CORE, FAULTS
from tests.faults.table.row import Fault

SLOW = {"429 with Retry-After as a date", "stop reading"}
"""They take seconds: what a date says has whole ones, and has to be ahead of a busy machine."""


def is_quick(name, kind):
    return kind == "one" and name in CORE and name not in SLOW


def cells(names, houses):
    """The parameters of each cell that makes sense."""
    found = []
    for name in names:
        for way in ("stream", "whole"):
            fault = getattr(FAULTS[name], way)
            if isinstance(fault, NoCells):
                continue
            assert isinstance(fault, Fault)
            for kind in houses:
                marks = [] if is_quick(name, kind) else [pytest.mark.slow]
                cell = (fault, way == "stream", kind)
                found.append(pytest.param(*cell, id=f"{name}-{way}-{kind}", marks=marks))
    return found


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "streamed", "kind"), cells(FAULTS, KINDS))
async def test_a_chat(tmp_path, fault, streamed, kind):
    await check(tmp_path, CHAT, fault, kind, streamed=streamed)


@pytest.mark.slow
@pytest.mark.parametrize("dialect", OTHERS)
@pytest.mark.parametrize(("fault", "streamed", "kind"), cells(CORE, ("one", "two")))
async def test_other_dialects(tmp_path, dialect, fault, streamed, kind):
    await check(tmp_path, OTHERS[dialect], fault, kind, streamed=streamed)


@pytest.mark.slow
@pytest.mark.parametrize(("fault", "streamed", "kind"), cells(FAULTS, ("both",)))
async def test_everywhere(tmp_path, fault, streamed, kind):
    await check_everywhere(tmp_path, CHAT, fault, streamed=streamed)
