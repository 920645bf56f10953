"""Replicas that do not answer, and who is asked in their place."""

from __future__ import annotations

import asyncio
import contextlib
import socket

from tests.support.inprocess import routing, serving
from tests.support.kinds import BOTH, good
from tests.support.upstream import CHAT, failing, scripted


@contextlib.contextmanager
def crowded(port):
    """A port where nobody accepts, and the line is full: the system drops what else comes."""
    with contextlib.ExitStack() as stack:
        listener = stack.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", port))
        listener.listen(0)
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(("127.0.0.1", port))
        yield


class TestDeadReplicas:
    @BOTH
    async def test_a_port_that_was_never_alive_costs_no_attempt(self, tmp_path, streamed):
        async with scripted(good(streamed)) as alive, scripted() as dead:
            await dead.close()
            async with serving(tmp_path, routing(alive, dead)) as gateway:
                answers = [await gateway.chat(stream=streamed) for _ in range(4)]
        assert [answer.headers["x-gateway-attempts"] for answer in answers] == ["1"] * 4
        assert len(alive.seen) == 4

    @BOTH
    async def test_a_machine_that_takes_no_connection_any_more(self, tmp_path, streamed):
        model = {"timeouts": {"connect": "200ms"}}
        async with scripted(good(streamed)) as alive, scripted() as full:
            document = routing(alive, full, model=model)
            async with serving(tmp_path, document) as gateway:
                await full.close()  # the gateway has seen it ready
                with crowded(full.port):
                    answer = await asyncio.wait_for(gateway.chat(stream=streamed), 5)
        assert answer.status_code == 200
        assert answer.headers["x-gateway-attempts"] == "2"
        assert answer.headers["x-gateway-replica"] == f"engine@{alive.id}"

    @BOTH
    async def test_all_dead_is_503_with_a_time_to_come_back(self, tmp_path, streamed):
        async with scripted() as one, scripted() as other:
            await one.close()
            await other.close()
            async with serving(tmp_path, routing(one, other)) as gateway:
                answer = await gateway.chat(stream=streamed)
                ready = await gateway.client.get("/ready")
        assert answer.status_code == 503
        assert int(answer.headers["retry-after"]) >= 1
        assert answer.json()["error"]["type"] == "service_unavailable"
        assert answer.headers["x-gateway-attempts"] == "3"
        assert ready.status_code == 503

    async def test_a_replica_that_probes_call_dead_is_tried_where_there_is_no_other(self, tmp_path):
        async with (
            scripted(CHAT, probe=failing(503)) as doubted,
            serving(tmp_path, routing(doubted)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code == 200

    async def test_a_replica_that_fails_is_left_alone_after_a_while(self, tmp_path):
        async with (
            scripted(CHAT) as steady,
            scripted(failing(500)) as broken,
            serving(tmp_path, routing(steady, broken)) as gateway,
        ):
            answers = [await gateway.chat() for _ in range(12)]
        assert [answer.status_code for answer in answers] == [200] * 12
        assert len(broken.seen) == 3

    async def test_flapping_is_not_seen_by_clients(self, tmp_path):
        flaps = [failing(500), CHAT] * 10
        async with (
            scripted(*flaps) as one,
            scripted(*reversed(flaps)) as other,
            serving(tmp_path, routing(one, other)) as gateway,
        ):
            answers = [await gateway.chat() for _ in range(15)]
        assert [answer.status_code for answer in answers] == [200] * 15
