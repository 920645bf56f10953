"""Answers that break off and are asked for again: what each side sees of it."""

from __future__ import annotations

import pytest

from gateway.dispatch import failover
from tests.faults.breaking_off import (
    DEAD,
    DEATHS,
    GOOD,
    WORDS,
    access_lines,
    answer,
    asked_for,
    engines,
    greedy,
    is_whole,
    logging_access,
)
from tests.faults.houses import settled
from tests.support.answers import error_of, events, is_done, said
from tests.support.inprocess import ask, serving
from tests.support.upstream import CHAT, Hold, Pause, Silence, failing, scripted, stream


class TestReplay:
    @pytest.mark.parametrize("death", DEATHS.values(), ids=DEATHS)
    async def test_goes_on_where_the_first_one_stopped(self, tmp_path, death):
        async with (
            scripted(GOOD) as good,
            scripted(death) as bad,
            serving(tmp_path, engines(good, bad)) as gateway,
        ):
            reply = await greedy(gateway)
            await settled(gateway, good, bad)
            metrics = (await gateway.client.get("/metrics")).text
        assert is_whole(reply)
        assert (len(bad.seen), len(good.seen)) == (1, 1)
        assert asked_for(good.seen[0]) == asked_for(bad.seen[0])
        assert reply.headers["x-gateway-replica"] == f"engine@{bad.id}"
        assert [
            line.rsplit(" ", 1)[1]
            for line in metrics.splitlines()
            if line.startswith(("gateway_failovers_total", "gateway_wasted_tokens_total"))
        ] == ["1.0", "2.0"]

    async def test_tells_the_usage_of_an_undisturbed_answer(self, tmp_path):
        async with (
            scripted(stream(*answer(*WORDS, usage=(7, 4)))) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad)) as gateway,
        ):
            reply = await greedy(gateway, stream_options={"include_usage": True})
        assert events(reply.text)[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 4}

    @pytest.mark.slow
    async def test_that_takes_long_says_that_it_is_there(self, tmp_path, monkeypatch):
        monkeypatch.setattr(failover, "QUIET", 0.05)
        slow = [part for word in answer(*WORDS) for part in (word, Pause(0.04))]
        async with (
            scripted(stream(*slow)) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad)) as gateway,
        ):
            reply = await greedy(gateway)
        assert is_whole(reply)
        assert ": the answer goes on soon\n\n" in reply.text

    @pytest.mark.parametrize("stays", [True, False])
    async def test_says_so_while_the_next_one_reads_the_prompt(self, tmp_path, monkeypatch, stays):
        monkeypatch.setattr(failover, "QUIET", 0.02)
        async with (
            scripted((Hold(), *GOOD)) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, logging_access(engines(good, bad))) as gateway,
        ):
            asked, lines = ask(stream=True, temperature=0), access_lines(gateway)
            heard = ""
            async with gateway.client.stream("POST", "/v1/chat/completions", json=asked) as reply:
                pieces = reply.aiter_text()
                while heard.count(": the answer goes on soon\n\n") < 3:
                    heard += await anext(pieces)
                if stays:
                    good.release()
                    heard += "".join([piece async for piece in pieces])
            await settled(gateway, good, bad)
            assert lines[0].replica == f"engine@{(good if stays else bad).id}"
            if stays:
                assert said(heard) == "Once upon a time"
                assert is_done(heard)
            else:
                await good.seen[0].gone()

    async def test_may_break_off_too(self, tmp_path):
        async with (
            scripted(GOOD) as good,
            scripted(stream(*answer("Once", " upon a", of="A")[:3])) as worse,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad, worse)) as gateway,
        ):
            reply = await greedy(gateway)
        assert [len(one.seen) for one in (bad, worse, good)] == [1, 1, 1]
        assert is_whole(reply)

    async def test_that_breaks_off_before_it_helped_leaves_the_first_error(self, tmp_path):
        begun = stream(*answer("Once", of="B")[:2])
        async with (
            scripted(begun) as other,
            scripted(DEATHS["reset"]) as bad,
            serving(tmp_path, engines(other, bad, model={"failover": {"attempts": 1}})) as gateway,
        ):
            reply = await greedy(gateway)
            await settled(gateway, other, bad)
        assert len(other.seen) == 1
        assert said(reply.text) == "Once upon"
        assert f"engine@{bad.id}" in error_of(reply.text)["message"]

    async def test_of_what_breaks_off_each_time_ends(self, tmp_path):
        async with (
            scripted(DEAD) as one,
            scripted(DEAD) as other,
            serving(tmp_path, engines(one, other, model={"failover": {"attempts": 4}})) as gateway,
        ):
            reply = await greedy(gateway)
            await settled(gateway, one, other)
        assert said(reply.text) == "Once upon"
        assert f"engine@{other.id}" in error_of(reply.text)["message"]
        assert len(one.seen) + len(other.seen) == 5

    async def test_that_says_something_else_is_not_handed_on(self, tmp_path):
        async with (
            scripted(stream(*answer("Once", " more"))) as other,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(other, bad)) as gateway,
        ):
            reply = await greedy(gateway)
            await settled(gateway, other, bad)
            metrics = (await gateway.client.get("/metrics")).text
        assert said(reply.text) == "Once upon"
        assert f"engine@{bad.id}" in error_of(reply.text)["message"]
        assert 'gateway_attempt_cause="diverged"' in metrics
        assert "gateway_failovers_total{" not in metrics
        assert "gateway_wasted_tokens_total{" in metrics

    async def test_that_says_something_else_leaves_others_to_be_asked(self, tmp_path):
        async with (
            scripted(GOOD) as good,
            scripted(stream(*answer("Once", " more"))) as other,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, other, bad)) as gateway,
        ):
            reply = await greedy(gateway)
            await settled(gateway, good, bad, other)
        assert is_whole(reply)
        assert [len(one.seen) for one in (bad, other, good)] == [1, 1, 1]

    async def test_that_is_refused_leaves_the_first_error(self, tmp_path):
        async with (
            scripted(failing(400, "too long")) as other,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(other, bad)) as gateway,
        ):
            reply = await greedy(gateway)
        assert f"engine@{bad.id}" in error_of(reply.text)["message"]
        assert len(other.seen) == 1

    async def test_that_is_no_stream_is_none(self, tmp_path):
        async with (
            scripted(CHAT) as other,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(other, bad, model={"failover": {"attempts": 1}})) as gateway,
        ):
            reply = await greedy(gateway)
            await settled(gateway, other, bad)
        assert f"engine@{bad.id}" in error_of(reply.text)["message"]

    @pytest.mark.slow
    async def test_has_the_time_of_the_whole_request(self, tmp_path):
        model = {"timeouts": {"total": "600ms"}}
        async with (
            scripted((Silence(),)) as other,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(other, bad, model=model)) as gateway,
        ):
            reply = await greedy(gateway)
            await settled(gateway, other, bad)
        assert f"engine@{bad.id}" in error_of(reply.text)["message"]
        assert len(other.seen) == 1
