"""Answers that break off in the middle and go on elsewhere: what each side sees of it."""

from __future__ import annotations

import asyncio
import json

import pytest

from gateway.dispatch import failover
from gateway.telemetry.access_log import line as access_line
from tests.faults.houses import settled
from tests.support.answers import error_of, events, is_done, said
from tests.support.inprocess import ask, routing, serving
from tests.support.upstream import (
    CHAT,
    DONE,
    FINISH,
    ROLE,
    Close,
    Hold,
    Pause,
    Reset,
    Silence,
    chunk,
    data,
    failing,
    scripted,
    stream,
    text,
)

WORDS = ("Once", " upon", " a", " time")


def answer(*words, of="B", finish="stop", usage=None):
    """The events of an answer that was made by `of`."""
    events = [ROLE, *map(text, words), chunk({}, finish=finish)]
    if usage is not None:
        told = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
        events.append(data({"id": "c-1", "choices": [], "usage": told}))
    return tuple(event.replace(b'"c-1"', b'"c-%s"' % of.encode()) for event in (*events, DONE))


BEGUN = answer("Once", " upon", of="A")[:3]
GOOD = stream(*answer(*WORDS))
DEATHS = {
    "reset": (*stream(*BEGUN, Pause(0.02), ended=False), Reset()),
    "cut": (*stream(*BEGUN, ended=False), Close()),
    "ended as HTTP should": stream(*BEGUN),
    "a malformed event": stream(*BEGUN, b"data: {broken\n\n", FINISH, DONE),
    "a torn event": stream(*BEGUN, b'data: {"choices":[{"ind'),
    "an error object": stream(*BEGUN, data({"error": {"message": "out of memory"}}), DONE),
    "[DONE] without a reason": stream(*BEGUN, DONE),
    "silence": (*stream(*BEGUN, ended=False), Silence()),
}
DEAD = DEATHS["ended as HTTP should"]


def engines(*upstreams, use="openai", model=None, **options):
    """A routing.yaml with one kind of engine; the last upstream is asked first."""
    more = {"timeouts": {"idle": "250ms"}, **(model or {})}
    document = routing(*upstreams, model=more)
    document["backends"]["engine"] |= {"use": use, **options}
    return document


async def greedy(gateway, **fields):
    return await gateway.chat(stream=True, temperature=0, **fields)


def asked_for(seen):
    return json.loads(seen.body)


def generations(upstream):
    """What it was asked for answers, and not for the tokens of a text."""
    return [one for one in upstream.seen if one.path != "/tokenize"]


def logging_access(document):
    return {**document, "telemetry": {"access_log": True}}


def access_lines(gateway):
    """Its access log from now on, which is not written."""
    lines = []
    gateway.gateway._access_log.write = lambda record: lines.append(access_line(record))
    return lines


def is_whole(reply):
    assert said(reply.text) == "Once upon a time"
    assert is_done(reply.text)
    assert {event["id"] for event in events(reply.text)} == {"c-A"}
    assert reply.text.count('"role":"assistant"') == 1
    return True


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
        assert ": another replica goes on\n\n" in reply.text

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
                while heard.count(": another replica goes on\n\n") < 3:
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

    async def test_has_the_time_of_the_whole_request(self, tmp_path):
        model = {"timeouts": {"total": "600ms", "first_token": "5s", "idle": "5s"}}
        async with (
            scripted((Silence(),)) as other,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(other, bad, model=model)) as gateway,
        ):
            reply = await greedy(gateway)
            await settled(gateway, other, bad)
        assert f"engine@{bad.id}" in error_of(reply.text)["message"]
        assert len(other.seen) == 1


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


class TestContinue:
    async def test_gives_the_text_so_far_to_the_engine(self, tmp_path):
        async with (
            scripted(stream(*answer(" a", " time"))) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad, use="llama_server")) as gateway,
        ):
            reply = await gateway.chat(stream=True, max_tokens=50)
        assert is_whole(reply)
        [asked] = map(asked_for, generations(good))
        assert asked["messages"][-1] == {"role": "assistant", "content": "Once upon"}
        assert asked["continue_final_message"] is True
        assert asked["max_tokens"] == 48

    async def test_tells_the_usage_of_both_together(self, tmp_path):
        async with (
            scripted(stream(*answer(" a", " time", usage=(9, 2)))) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad, use="vllm")) as gateway,
        ):
            reply = await gateway.chat(stream=True, stream_options={"include_usage": True})
        assert events(reply.text)[-1]["usage"] == {"prompt_tokens": 7, "completion_tokens": 4}

    async def test_follows_a_replay_that_said_something_else(self, tmp_path):
        async with (
            scripted(stream(*answer("Once", " more")), stream(*answer(" a", " time"))) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad, use="llama_server")) as gateway,
        ):
            reply = await greedy(gateway)
        assert is_whole(reply)
        assert (len(bad.seen), len(generations(good))) == (1, 2)

    async def test_of_another_dialect_is_asked_in_a_chat(self, tmp_path):
        def event(kind, **fields):
            return f"event: {kind}\ndata: {json.dumps({'type': kind, **fields})}\n\n".encode()

        delta = {"type": "text_delta", "text": "Once upon"}
        begun = (
            event("message_start", message={"id": "msg_A", "model": "m", "usage": {}}),
            event("content_block_start", index=0, content_block={"type": "text", "text": ""}),
            event("content_block_delta", index=0, delta=delta),
        )
        async with (
            scripted(stream(*answer(" a", " time"))) as good,
            scripted(stream(*begun)) as bad,
            serving(tmp_path, engines(good, bad, use="llama_server")) as gateway,
        ):
            reply = await gateway.client.post("/v1/messages", json=ask(stream=True, max_tokens=9))
        paths = [one.path for one in (*bad.seen, *generations(good))]
        assert paths == ["/v1/messages", "/v1/chat/completions"]
        told = [json.loads(line[6:]) for line in reply.text.splitlines() if line[:6] == "data: "]
        assert (
            "".join(one["delta"]["text"] for one in told if one["type"] == "content_block_delta")
            == "Once upon a time"
        )
        assert [one["type"] for one in told].count("message_start") == 1
        assert told[0]["message"]["id"] == "msg_A"
        assert told[-1]["type"] == "message_stop"

    async def test_is_nothing_for_a_server_of_which_nothing_is_known(self, tmp_path):
        async with (
            scripted(GOOD) as good,
            scripted(DEAD) as bad,
            serving(tmp_path, engines(good, bad)) as gateway,
        ):
            reply = await gateway.chat(stream=True)
        assert said(reply.text) == "Once upon"
        assert f"engine@{bad.id}" in error_of(reply.text)["message"]
        assert not good.seen


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


async def test_a_completion_goes_on_at_any_server(tmp_path):
    def said_by(*words):
        return [
            data({"id": "c-1", "choices": [{"index": 0, "text": word, "finish_reason": None}]})
            for word in words
        ]

    ending = data({"choices": [{"index": 0, "text": "", "finish_reason": "stop"}]})
    async with (
        scripted(stream(*said_by(" a", " time"), ending, DONE)) as good,
        scripted(stream(*said_by("Once", " upon"))) as bad,
        serving(tmp_path, engines(good, bad)) as gateway,
    ):
        body = {"model": "tale", "prompt": "Tell: ", "stream": True}
        reply = await gateway.client.post("/v1/completions", json=body)
    assert asked_for(good.seen[0])["prompt"] == "Tell: Once upon"
    told = events(reply.text)
    assert "".join(one["choices"][0]["text"] for one in told) == "Once upon a time"
    assert is_done(reply.text)


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
