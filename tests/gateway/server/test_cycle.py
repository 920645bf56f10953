from __future__ import annotations

import asyncio
import logging

import pytest
from uvicorn.protocols.http.flow_control import FlowControl

from gateway.server.cycle import Cycle

JSON = (b"content-type", b"application/json")
LOGGER = logging.getLogger(__name__)


class Written(asyncio.Transport):
    """A transport that remembers."""

    def __init__(self):
        super().__init__()
        self.writes = []

    def write(self, data):
        self.writes.append(bytes(data))


class Answer:
    """A cycle, and what came of it."""

    def __init__(self, method="POST", version="1.1", keep_alive=True):
        self.below = Written()
        self.completed = 0
        self.cycle = Cycle(
            scope={"type": "http", "method": method, "http_version": version},
            transport=self.below,
            flow=FlowControl(self.below),
            logger=LOGGER,
            access_logger=LOGGER,
            access_log=False,
            default_headers=[(b"date", b"now")],
            message_event=asyncio.Event(),
            expect_100_continue=False,
            keep_alive=keep_alive,
            on_response=self._complete,
        )

    def _complete(self):
        self.completed += 1

    async def start(self, *headers, status=200):
        await self.cycle.send(
            {"type": "http.response.start", "status": status, "headers": list(headers)}
        )

    async def body(self, body=b"", *, more=False):
        await self.cycle.send({"type": "http.response.body", "body": body, "more_body": more})


def length(of):
    return (b"content-length", b"%d" % of)


async def test_head_and_body_go_out_in_one_write():
    answer = Answer()
    await answer.start(JSON, length(of=4))
    assert answer.below.writes == []
    await answer.body(b"body")
    assert answer.below.writes == [
        b"HTTP/1.1 200 OK\r\ndate: now\r\ncontent-type: application/json\r\n"
        b"content-length: 4\r\n\r\nbody"
    ]
    assert (answer.completed, answer.cycle.keep_alive) == (1, True)


async def test_a_body_of_unknown_length_comes_in_chunks():
    answer = Answer()
    await answer.start()
    await answer.body(b"hello", more=True)
    await answer.body(b"", more=True)
    await answer.body(b"!" * 16)
    first, last = answer.below.writes
    assert first.endswith(b"transfer-encoding: chunked\r\n\r\n5\r\nhello\r\n")
    assert last == b"10\r\n" + b"!" * 16 + b"\r\n0\r\n\r\n"


async def test_for_an_old_client_the_end_of_the_connection_is_the_end():
    answer = Answer(version="1.0", keep_alive=False)
    await answer.start()
    await answer.body(b"hello", more=True)
    await answer.body(b": transfer-encoding")
    written = b"".join(answer.below.writes)
    assert written.endswith(b"connection: close\r\n\r\nhello: transfer-encoding")
    assert b"chunked" not in written
    assert (answer.completed, answer.cycle.keep_alive) == (1, False)


@pytest.mark.parametrize(("method", "status"), [("HEAD", 200), ("GET", 204), ("GET", 304)])
async def test_a_head_without_a_body_is_not_forgotten(method, status):
    answer = Answer(method)
    await answer.start(status=status)
    await answer.body()
    assert len(answer.below.writes) == answer.completed == 1
    assert b"transfer-encoding" not in answer.below.writes[0]


async def test_a_head_request_is_told_the_length_of_what_it_is_not_sent():
    answer = Answer("HEAD")
    await answer.start(length(of=4))
    await answer.body(b"body")
    assert answer.below.writes[0].endswith(b"content-length: 4\r\n\r\n")


async def test_an_app_may_have_the_connection_closed():
    answer = Answer()
    await answer.start((b"connection", b"close"), length(of=0))
    await answer.body()
    assert answer.below.writes[0].count(b"connection: close\r\n") == 1
    assert (answer.completed, answer.cycle.keep_alive) == (1, False)


@pytest.mark.parametrize("value", [b"a\r\nset-cookie: b", b"a\nb", b"a\rb", b"a\n", b"\r"])
async def test_a_field_that_brings_a_line_is_not_sent(value):
    answer = Answer()
    with pytest.raises(RuntimeError, match="line break"):
        await answer.start((b"x-odd", value))
    assert answer.below.writes == []


@pytest.mark.parametrize(("told", "body"), [(3, b"body"), (5, b"body")])
async def test_a_body_of_another_length_than_told_is_an_error(told, body):
    answer = Answer()
    await answer.start(length(of=told))
    with pytest.raises(RuntimeError, match="than its content-length"):
        await answer.body(body)
    assert not answer.completed


async def test_what_comes_out_of_turn_is_an_error():
    answer = Answer()
    with pytest.raises(RuntimeError, match="out of turn"):
        await answer.body()
    await answer.start(length(of=0))
    with pytest.raises(RuntimeError, match="out of turn"):
        await answer.start()
    await answer.body()
    with pytest.raises(RuntimeError, match="complete"):
        await answer.body()


async def test_to_a_client_that_has_left_nothing_is_written():
    answer = Answer()
    await answer.start(length(of=4))
    answer.cycle.disconnected = True
    await answer.body(b"body")
    assert answer.below.writes == []


async def test_nothing_is_written_while_the_client_does_not_read():
    answer = Answer()
    await answer.start(length(of=4))
    answer.cycle.flow.pause_writing()
    writing = asyncio.create_task(answer.body(b"body"))
    await asyncio.sleep(0)
    assert answer.below.writes == []
    answer.cycle.flow.resume_writing()
    await writing
    assert len(answer.below.writes) == 1
