"""Which variant of a model answers where the one whose turn it was cannot."""

from __future__ import annotations

import pytest

from tests.faults.test_fallbacks import TOO_LONG
from tests.support.inprocess import serving
from tests.support.kinds import BOTH
from tests.support.upstream import CHAT, ENGINE_MODEL, STORY, Reset, failing, scripted, stream

REQUESTS = 12


def split(new, old, *, weight_of_old=50):
    """Two variants, of which clients stay with one, by `user`."""
    backends = {
        name: {"use": "openai", "replicas": [engine.url], "model": ENGINE_MODEL}
        for name, engine in (("new", new), ("old", old))
    }
    weights = {"new": 50, "old": weight_of_old}
    variants = {name: {"backend": name, "weight": weights[name]} for name in backends}
    model = {"variants": variants, "sticky": "user", "retry": {"attempts": 2, "backoff": "1ms"}}
    return {"backends": backends, "models": {"tale": model}, "telemetry": {"access_log": False}}


async def ask(gateway, **fields):
    return [await gateway.chat(user=f"user {number}", **fields) for number in range(REQUESTS)]


class TestVariants:
    @BOTH
    async def test_one_that_fails_costs_no_answer(self, tmp_path, streamed):
        async with (
            scripted(stream(*STORY) if streamed else CHAT) as old,
            scripted(failing(500)) as new,
            serving(tmp_path, split(new, old)) as gateway,
        ):
            answers = await ask(gateway, stream=streamed)
        assert [one.status_code for one in answers] == [200] * REQUESTS
        assert {one.headers["x-gateway-variant"] for one in answers} == {"old"}
        assert (len(new.seen) > 0, len(old.seen)) == (True, REQUESTS)

    async def test_one_that_is_for_rules_only_stands_in_for_nobody(self, tmp_path):
        async with (
            scripted(CHAT) as old,
            scripted(failing(500)) as new,
            serving(tmp_path, split(new, old, weight_of_old=0)) as gateway,
        ):
            answers = await ask(gateway)
        assert {one.status_code for one in answers} == {502}
        assert old.seen == []

    async def test_where_both_fail_each_is_asked_as_often_as_it_may_be(self, tmp_path):
        async with (
            scripted(failing(503, "full as well")) as old,
            scripted((Reset(),)) as new,
            serving(tmp_path, split(new, old)) as gateway,
        ):
            answer = await gateway.chat()
        assert (answer.status_code, len(new.seen), len(old.seen)) == (
            {"old": 503, "new": 502}[answer.headers["x-gateway-variant"]],
            2,
            2,
        )

    @pytest.mark.slow
    @pytest.mark.parametrize("script", [failing(400, "your fault"), TOO_LONG])
    async def test_what_the_other_would_say_as_well_is_told_at_once(self, tmp_path, script):
        async with (
            scripted(script) as old,
            scripted(script) as new,
            serving(tmp_path, split(new, old)) as gateway,
        ):
            answers = await ask(gateway)
        assert {one.status_code for one in answers} == {400}
        assert len(new.seen) + len(old.seen) == REQUESTS
