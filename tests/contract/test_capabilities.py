"""The table of capabilities cannot lie: what it claims is tried, and what it denies is refused."""

from __future__ import annotations

import msgspec
import pytest

from backends.base import CAPABILITY_OF, Backend
from backends.capabilities import Capability
from gateway.conform.asking import ask
from gateway.conform.finding import Outcome
from gateway.conform.probes import PROBES, try_capability
from gateway.dispatch.ability import lacks
from gateway.wire.needs import field_of, needs
from gateway.wire.peek import peek
from tests.contract.conftest import IN_PROCESS
from tests.support.engines import LLAMA_SERVER

pytestmark = pytest.mark.asyncio(loop_scope="module")

CANNOT_TELL = {
    # The tiny model never ends an object that it did not want to begin, and llama-server lets
    # it say what it likes before a call that it must make.
    (LLAMA_SERVER, Capability.JSON_OBJECT),
    (LLAMA_SERVER, Capability.FORCED_TOOLS),
}
"""Where a probe shows nothing; other tests here do."""


@pytest.mark.parametrize("capability", Capability)
async def test_what_is_claimed_is_true(target, engine, capability):
    found = await try_capability(target, capability)
    if capability not in target.backend.capabilities:
        allowed = {Outcome.ABSENT}
        more = "works" in found.detail and not _is_translated(capability, target.backend)
        assert not more, "it can do more than the table says"
    else:
        allowed = {Outcome.KEPT}
        if capability in target.backend.conditional:
            allowed.add(Outcome.REFUSED)
        if (engine, capability) in CANNOT_TELL:
            allowed.add(Outcome.UNCLEAR)
    assert found.outcome in allowed, found


@pytest.mark.parametrize("capability", Capability)
async def test_what_is_denied_is_refused_by_name(target, engine, capability):
    """By the gateway before anybody is asked, and by an engine in this process itself."""
    if capability in target.backend.capabilities:
        pytest.skip("it is claimed")
    if _is_translated(capability, target.backend):
        pytest.skip("the gateway makes up for it")
    probe = PROBES[capability]
    body = msgspec.json.encode({"model": "m", **probe.fields})
    needed = needs(probe.endpoint, peek(probe.endpoint, body), body)
    assert capability in needed
    if engine not in IN_PROCESS:
        return
    answer = await ask(target, probe.endpoint, probe.fields)
    assert answer.refused, answer
    if capability not in CAPABILITY_OF.values():
        assert 400 <= answer.status < 500
        assert (answer.error.param or "").split(".")[0].split("[")[0] == field_of(
            capability, probe.endpoint
        )


async def test_what_is_conditional_is_claimed(target):
    assert target.backend.conditional <= target.backend.capabilities


def _is_translated(capability: Capability, backend: Backend) -> bool:
    """Whether the gateway makes up for it."""
    return not lacks(backend, frozenset({capability}))
