"""Answers that break off: who goes on with them, and what is told of it."""

from __future__ import annotations

import asyncio

import pytest

from tests.faults.breaking_off import (
    DEAD,
    DEATHS,
    GOOD,
    WORDS,
    access_lines,
    answer,
    engines,
    greedy,
    is_whole,
    logging_access,
)
from tests.faults.houses import settled
from tests.support.answers import error_of, events, is_done, said
from tests.support.inprocess import serving
from tests.support.upstream import (
    DONE,
    ROLE,
    Hold,
    Pause,
    Reset,
    Silence,
    chunk,
    data,
    failing,
    scripted,
    stream,
)


class TestTold:
    """The operator hears of each attempt as it was."""

    async def run(self, tmp_path, *upstreams):
        document = engines(*upstreams, model={"failover": {"attempts": 2}})
        async with serving(tmp_path, logging_access(document)) as gateway:
            lines = access_lines(gateway)
            reply = await greedy(gateway)
            await settled(gateway, *upstreams)
        return reply, lines[0]

    async def test_where_somebody_goes_on(self, tmp_path, caplog):
        async with scripted(GOOD) as good, scripted(DEATHS["reset"]) as bad:
            _, line = await self.run(tmp_path, good, bad)
            assert (line.replica, line.failovers, line.attempts) == (f"engine@{good.id}", 1, 2)
            failed = f"engine@{bad.id} failed it (reset); engine@{good.id} is asked to go on"
            assert [failed in one for one in told(caplog)] == [True]

    async def test_where_nobody_does(self, tmp_path, caplog):
        async with (
            scripted(failing(500)) as worse,
            scripted(stream(*answer("Once", " more"))) as other,
            scripted(DEATHS["reset"]) as bad,
        ):
            reply, line = await self.run(tmp_path, other, worse, bad)
            assert (line.replica, line.failovers, line.attempts) == (f"engine@{bad.id}", 0, 3)
            assert line.cause == "reset"
            assert f"engine@{bad.id}" in error_of(reply.text)["message"]
            lines = told(caplog)
            for one, cause in ((bad, "reset"), (other, "diverged"), (worse, "http_500")):
                failed = f"engine@{one.id} failed it ({cause})"
                assert [failed in line for line in lines].count(True) == 1
            assert f"as engine@{bad.id} had left it: 2 more attempts" in lines[-1]


def told(caplog):
    """What the log says of answers that broke off."""
    wanted = ("gateway.dispatch.failover", "gateway.dispatch.handover")
    return [one.getMessage() for one in caplog.records if one.name in wanted]


class TestWho:
    async def test_nobody_where_the_file_says_so(self, tmp_path):
        async with (
            scripted(GOOD) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad, model={"failover": {"attempts": 0}})) as gateway,
        ):
            reply = await greedy(gateway)
        assert error_of(reply.text)
        assert not good.seen

    async def test_nobody_for_several_answers_at_once(self, tmp_path):
        async with (
            scripted(GOOD) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad)) as gateway,
        ):
            reply = await greedy(gateway, n=2)
        assert error_of(reply.text)
        assert not good.seen

    async def test_nobody_once_the_budget_is_spent(self, tmp_path):
        budget = {"retry_budget": {"percent": 0, "min_per_second": 0}}
        async with (
            scripted(GOOD) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, {**engines(good, bad), **budget}) as gateway,
        ):
            reply = await greedy(gateway)
        assert error_of(reply.text)
        assert not good.seen

    async def test_the_silent_one_is_let_go_first(self, tmp_path):
        async with (
            scripted(GOOD) as good,
            scripted(DEATHS["silence"]) as bad,
            serving(tmp_path, engines(good, bad)) as gateway,
        ):
            reply = await greedy(gateway)
            gone = await bad.seen[0].gone()
        assert is_whole(reply)
        assert gone <= good.seen[0].at + 0.05

    @pytest.mark.parametrize("way", ["variant", "fallback"])
    @pytest.mark.parametrize("checkpoint", ["tale", None])
    async def test_others_where_they_have_the_same_weights(self, tmp_path, way, checkpoint):
        async with scripted(GOOD) as good, scripted(DEAD) as bad:
            document = engines(bad)
            spare = {**document["backends"]["engine"], "replicas": [good.url]}
            document["backends"]["spare"] = spare
            weights = {} if checkpoint is None else {"checkpoint": checkpoint}
            model = document["models"]["tale"]
            if way == "fallback":
                document["models"]["plan-b"] = {"backend": "spare", **weights}
                document["models"]["tale"] = {**model, "fallback": ["plan-b"], **weights}
            else:
                del model["backend"]
                model["variants"] = {
                    "a": {"backend": "engine", **weights},
                    "b": {"backend": "spare", "weight": 0, **weights},
                }
            async with serving(tmp_path, document) as gateway:
                reply = await greedy(gateway)
        assert len(good.seen) == (0 if checkpoint is None else 1)
        if checkpoint is not None:
            assert is_whole(reply)
            assert {event["model"] for event in events(reply.text)} == {"tale"}
        else:
            assert error_of(reply.text)


@pytest.mark.parametrize("full", [False, True])
async def test_another_model_goes_on_only_where_it_has_a_place(tmp_path, full):
    whole = answer(*WORDS)
    held = stream(*whole[:4], Hold(), *whole[4:])
    async with scripted(held) as good, scripted(DEAD) as bad:
        gated = {"concurrency": 1, "queue": {"size": 0}, "checkpoint": "tale"}
        document = engines(bad, model={**gated, "fallback": ["plan-b"]})
        spare = {**document["backends"]["engine"], "replicas": [good.url]}
        document["backends"]["spare"] = spare
        document["models"]["plan-b"] = {"backend": "spare", **gated}
        async with serving(tmp_path, document) as gateway:

            def inside():
                gates = gateway.gateway._attempts._admission.states()
                return {gate.model: gate.inside for gate in gates}

            first = asyncio.create_task(greedy(gateway, model="plan-b" if full else "tale"))
            await good.asked()
            if full:
                assert error_of((await greedy(gateway)).text)
            async with asyncio.timeout(5):
                while inside() not in ({"tale": 0, "plan-b": 1}, {"plan-b": 1}):
                    await asyncio.sleep(0.005)
            good.release()
            reply = await first
            assert said(reply.text) == "Once upon a time"
            assert is_done(reply.text)
            assert len(good.seen) == 1
            assert set(inside().values()) == {0}
            metrics = (await gateway.client.get("/metrics")).text
    gates = [line for line in metrics.splitlines() if "plan-b" in line]
    [stood] = [line for line in gates if line.startswith("gateway_admission_wait_seconds_count")]
    refused = [line for line in gates if line.startswith("gateway_admission_refused_total{")]
    assert len(refused) == full
    times = 3 if full else 0  # once for each attempt
    assert all('gateway_reason="no_place"' in line and f" {times}." in line for line in refused)
    assert stood.endswith(f" {1 + times}.0")


async def test_a_client_that_leaves_while_another_one_is_asked_cancels_that_one(tmp_path):
    async with (
        scripted((Silence(),)) as other,
        scripted(DEAD) as bad,
        serving(tmp_path, engines(other, bad)) as gateway,
    ):
        asking = asyncio.create_task(greedy(gateway))
        await other.asked()
        asking.cancel()
        await other.seen[0].gone()
        await settled(gateway, other, bad)
    assert asking.cancelled() or asking.cancelling()


async def test_an_answer_that_lacks_only_its_goodbye_asks_nobody(tmp_path):
    broken = (*stream(*answer(*WORDS, of="A")[:-1], ended=False), Pause(0.02), Reset())
    async with (
        scripted(GOOD) as good,
        scripted(broken) as bad,
        serving(tmp_path, engines(good, bad)) as gateway,
    ):
        reply = await greedy(gateway)
    assert is_whole(reply)
    assert not good.seen


@pytest.mark.parametrize("after", [b"data: {broken\n\n", data({"error": {"message": "late"}})])
async def test_an_answer_that_is_whole_but_for_what_came_after_it_asks_nobody(tmp_path, after):
    async with (
        scripted(GOOD) as good,
        scripted(stream(*answer(*WORDS, of="A")[:-1], Pause(0.05), after)) as bad,
        serving(tmp_path, engines(good, bad)) as gateway,
    ):
        reply = await greedy(gateway)
        await settled(gateway, good, bad)
    assert is_whole(reply)
    assert reply.text.count("[DONE]") == 1
    assert not good.seen


LATE = {
    "reset": (Pause(0.05), Reset()),
    "a malformed event": (Pause(0.05), b"data: {broken\n\n"),
    "an error object": (Pause(0.05), data({"error": {"message": "late"}})),
}


@pytest.mark.parametrize("after", LATE.values(), ids=LATE)
@pytest.mark.parametrize("temperature", [0, 1])
async def test_an_answer_that_lacks_its_usage_is_asked_for_again(tmp_path, after, temperature):
    broken = stream(*answer(*WORDS, of="A")[:-1], *after, ended=False)
    async with (
        scripted(stream(*answer(*WORDS, usage=(7, 4)))) as good,
        scripted(broken) as bad,
        serving(tmp_path, engines(good, bad)) as gateway,
    ):
        reply = await gateway.chat(
            stream=True, temperature=temperature, stream_options={"include_usage": True}
        )
        await settled(gateway, good, bad)
    assert is_whole(reply)
    assert reply.text.count("[DONE]") == reply.text.count('"finish_reason":"stop"') == 1
    if temperature:  # it would be another answer: this one is whole, but for its usage
        assert not good.seen
    else:
        assert events(reply.text)[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 4}


async def test_what_cannot_be_compared_is_broken_off_and_not_said_twice(tmp_path):
    def called(arguments):
        return chunk({"function_call": {"name": "weather", "arguments": arguments}})

    begun = (ROLE, called('{"city":'))
    async with (
        scripted(stream(*begun, called('"Rome"}'), chunk({}, finish="stop"), DONE)) as good,
        scripted(stream(*begun)) as bad,
        serving(tmp_path, engines(good, bad)) as gateway,
    ):
        reply = await greedy(gateway)
        await settled(gateway, good, bad)
    assert reply.text.count("weather") == 1
    assert not good.seen
    assert error_of(reply.text)
    assert not is_done(reply.text)
