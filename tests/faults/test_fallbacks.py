"""Which model answers where the one that was asked for cannot, and where none does."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.inprocess import serving
from tests.support.kinds import BOTH
from tests.support.upstream import (
    CHAT,
    ENGINE_MODEL,
    STORY,
    Reset,
    completion,
    failing,
    reply,
    scripted,
    stream,
)


def with_fallback(main, spare, **model):
    backends = {
        "main": {"use": "openai", "replicas": [main.url], "model": ENGINE_MODEL},
        "spare": {"use": "openai", "replicas": [spare.url], "model": "spare-engine"},
    }
    retry = {"retry": {"attempts": 2, "backoff": "1ms"}}
    models = {
        "tale": {"backend": "main", "fallback": ["plan-b"], **retry, **model},
        "plan-b": {"backend": "spare", **retry},
    }
    return {"backends": backends, "models": models, "telemetry": {"access_log": False}}


SPARE_STORY = [event.replace(b"engine-model", b"spare-engine") for event in STORY]


class TestFallback:
    async def test_the_clients_own_mistake_stays_where_it_was_made(self, tmp_path):
        async with (
            scripted(CHAT) as spare,
            scripted(failing(400, "your fault")) as main,
            serving(tmp_path, with_fallback(main, spare)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code == 400
        assert spare.seen == []

    async def test_where_nobody_answers_the_last_reason_is_told(self, tmp_path):
        async with (
            scripted(failing(503, "spare is full")) as spare,
            scripted((Reset(),)) as main,
            serving(tmp_path, with_fallback(main, spare)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code == 503
        assert "spare is full" in answer.json()["error"]["message"]
        assert (len(main.seen), len(spare.seen)) == (2, 2)
        assert answer.headers["x-gateway-attempts"] == "4"

    async def test_models_that_name_each_other_are_asked_once(self, tmp_path):
        async with (
            scripted(failing(503)) as spare,
            scripted(failing(503)) as main,
        ):
            config = with_fallback(main, spare)
            config["models"]["plan-b"]["fallback"] = ["tale"]
            async with serving(tmp_path, config) as gateway:
                answers = [
                    await asyncio.wait_for(gateway.chat(model=one), 5) for one in ("tale", "plan-b")
                ]
        assert [one.status_code for one in answers] == [503, 503]
        assert [one.headers["x-gateway-model"] for one in answers] == ["plan-b", "tale"]
        assert (len(main.seen), len(spare.seen)) == (4, 4)


TOO_LONG = reply({"error": {"message": "too long", "code": "context_length_exceeded"}}, 400)


class TestFallbackByCause:
    @BOTH
    async def test_what_is_too_long_goes_to_the_model_for_that(self, tmp_path, streamed):
        whole = reply(completion(model="spare-engine"))
        async with (
            scripted(stream(*SPARE_STORY) if streamed else whole) as spare,
            scripted(TOO_LONG) as main,
            serving(tmp_path, with_fallback(main, spare, fallback={"context": ["plan-b"]})) as it,
        ):
            answer = await it.chat(stream=streamed)
        assert answer.status_code == 200
        assert answer.headers["x-gateway-model"] == "plan-b"
        assert '"plan-b"' in answer.text
        assert "spare-engine" not in answer.text
        assert (len(main.seen), len(spare.seen)) == (1, 1)

    async def test_a_plain_list_is_not_for_that(self, tmp_path):
        async with (
            scripted(CHAT) as spare,
            scripted(TOO_LONG) as main,
            serving(tmp_path, with_fallback(main, spare)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "context_length_exceeded"
        assert answer.headers["x-gateway-model"] == "tale"
        assert spare.seen == []

    @pytest.mark.parametrize(
        ("script", "cause", "told"),
        [(failing(429), "unavailable", 429), (failing(503), "overloaded", 503)],
    )
    async def test_each_cause_has_its_own(self, tmp_path, script, cause, told):
        async with (
            scripted(CHAT) as spare,
            scripted(script) as main,
            serving(tmp_path, with_fallback(main, spare, fallback={cause: ["plan-b"]})) as it,
        ):
            answer = await it.chat()
        assert answer.status_code == told
        assert spare.seen == []

    async def test_what_is_too_long_there_too_is_told(self, tmp_path):
        async with (
            scripted(TOO_LONG) as spare,
            scripted(failing(429)) as main,
            serving(
                tmp_path,
                with_fallback(
                    main, spare, fallback={"overloaded": ["plan-b"], "context": ["plan-b"]}
                ),
            ) as gateway,
        ):
            answer = await asyncio.wait_for(gateway.chat(), 5)
        assert answer.status_code == 400
        assert len(spare.seen) == 1
