"""How often, how soon and for how long it is tried again."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.inprocess import routing, serving
from tests.support.kinds import BOTH
from tests.support.upstream import CHAT, Pause, Silence, failing, scripted


class TestRetryAfter:
    @pytest.mark.parametrize(
        "value", ["nan", "inf", "-1", "1e400", "soon", "", "Mon, 99 Foo 2099 99:99:99 GMT"]
    )
    async def test_nonsense_is_no_reason_to_fail(self, tmp_path, value):
        script = failing(429, "later", ("retry-after", value))
        async with scripted(script) as odd, serving(tmp_path, routing(odd)) as gateway:
            answer = await asyncio.wait_for(gateway.chat(), 2)
        assert answer.status_code == 429
        assert int(answer.headers["retry-after"]) >= 1


class TestBounds:
    @pytest.mark.parametrize("attempts", [1, 2, 4])
    async def test_attempts_are_counted_over_all_replicas(self, tmp_path, attempts):
        model = {"retry": {"attempts": attempts, "backoff": "1ms"}}
        async with (
            scripted(failing(500)) as one,
            scripted(failing(500)) as other,
            serving(tmp_path, routing(one, other, model=model)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code == 502
        assert len(one.seen) + len(other.seen) == attempts
        assert answer.headers["x-gateway-attempts"] == str(attempts)
        assert abs(len(one.seen) - len(other.seen)) <= 1 + max(0, attempts - 2)

    @pytest.mark.slow
    async def test_the_same_replica_is_not_hammered(self, tmp_path):
        model = {"retry": {"attempts": 3, "backoff": "100ms", "max_backoff": "1s"}}
        async with (
            scripted(failing(500)) as broken,
            serving(tmp_path, routing(broken, model=model)) as gateway,
        ):
            await gateway.chat()
        first, second, third = (seen.at for seen in broken.seen)
        assert second - first >= 0.099
        assert third - second >= 0.099

    async def test_the_budget_of_all_requests_together(self, tmp_path):
        budget = {"percent": 0, "min_per_second": 0.5, "window": "10s"}
        async with (
            scripted(failing(500)) as broken,
            serving(tmp_path, routing(broken, retry_budget=budget)) as gateway,
        ):
            answers = [await gateway.chat() for _ in range(8)]
        assert [answer.status_code for answer in answers] == [502] * 8
        assert len(broken.seen) == 8 + 5

    @pytest.mark.slow
    async def test_the_total_timeout_is_over_all_attempts(self, tmp_path):
        model = {
            "timeouts": {"total": "600ms"},
            "retry": {"attempts": 10, "backoff": "10ms", "max_backoff": "10ms"},
        }
        script = (Pause(0.25), *failing(500))
        async with (
            scripted(script) as slow,
            serving(tmp_path, routing(slow, model=model)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code in (502, 504)
        assert 2 <= len(slow.seen) <= 3

    @BOTH
    async def test_out_of_time_is_504_and_frees_the_engine(self, tmp_path, streamed):
        model = {"timeouts": {"total": "150ms"}}
        async with (
            scripted(CHAT) as other,
            scripted((Silence(),)) as hung,
            serving(tmp_path, routing(other, hung, model=model)) as gateway,
        ):
            answer = await gateway.chat(stream=streamed)
            await hung.seen[0].gone()
        assert answer.status_code == 504
        assert answer.json()["error"]["code"] == "upstream_timeout"
        assert (len(hung.seen), len(other.seen)) == (1, 0)

    async def test_no_retry_where_its_wait_would_be_too_long(self, tmp_path):
        model = {
            "timeouts": {"total": "200ms"},
            "retry": {"backoff": "500ms", "max_backoff": "1s"},
        }
        async with (
            scripted(failing(500)) as broken,
            serving(tmp_path, routing(broken, model=model)) as gateway,
        ):
            answer = await asyncio.wait_for(gateway.chat(), 1)
        assert answer.status_code == 502
        assert len(broken.seen) == 1
