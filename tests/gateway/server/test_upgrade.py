from __future__ import annotations

import asyncio

import pytest

from gateway.server.upgrade import head_without_upgrade
from tests.support.inprocess import post
from tests.support.raw_http import CHAT_BODY, chunked_post, refused

HOST = (b"host", b"g")


def lines(*headers):
    head = head_without_upgrade(b"POST", b"/a?b", "1.1", headers)
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def test_the_offer_goes_and_all_else_stays_in_its_order():
    offer = [(b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c")]
    offer.append((b"http2-settings", b"AAMA"))
    assert lines(HOST, *offer, (b"x", b"1"), (b"x", b"2")) == [
        b"POST /a?b HTTP/1.1",
        b"host: g",
        b"connection: ",
        b"x: 1",
        b"x: 2",
    ]


@pytest.mark.parametrize("value", [b"close, Upgrade", b"upgrade,close", b" UPGRADE , close"])
def test_what_else_is_said_of_the_connection_stays(value):
    assert lines((b"connection", value))[1] == b"connection: close"


def test_the_version_stays():
    assert head_without_upgrade(b"GET", b"/", "1.0", []) == b"GET / HTTP/1.0\r\n\r\n"


OFFERS = {
    "java": (b"connection: Upgrade, HTTP2-Settings", b"upgrade: h2c", b"http2-settings: AAMAAABk"),
    "websocket": (b"Upgrade: websocket", b"Connection: upgrade"),
}


class TestUpgrade:
    OFFERS = pytest.mark.parametrize("offer", OFFERS.values(), ids=OFFERS)

    @OFFERS
    async def test_a_request_with_a_body_is_answered(self, gateway, engine, offer):
        client = await gateway.connect()
        for turn in range(2):
            await client.write(post(CHAT_BODY, *offer))
            assert (await client.response())[0] == 200
            assert engine.seen[turn].body.count(b'"Hello"') == 1
            assert engine.seen[turn].header("upgrade") is None
            assert engine.seen[turn].header("http2-settings") is None

    async def test_in_chunks_and_with_trailers(self, gateway, engine):
        request = chunked_post(CHAT_BODY[:9], CHAT_BODY[9:], trailers=b"x: y\r\n\r\n")
        offer = b"\r\n".join((b"POST /v1/chat/completions HTTP/1.1", *OFFERS["java"], b""))
        await gateway.exchange(offer + request.partition(b"\r\n")[2])
        assert engine.seen[0].body.count(b'"Hello"') == 1

    @pytest.mark.parametrize("size", [1, 7, 150])
    async def test_in_pieces(self, gateway, engine, size):
        client = await gateway.connect()
        data = post(CHAT_BODY, *OFFERS["java"])
        for start in range(0, len(data), size):
            client.writer.write(data[start : start + size])
            await asyncio.sleep(0)  # the server reads in this loop, too
        assert (await client.response())[0] == 200

    async def test_the_head_arrives_before_the_body(self, gateway):
        client = await gateway.connect()
        data = post(CHAT_BODY, b"expect: 100-continue", *OFFERS["java"])
        head, _, body = data.partition(b"\r\n\r\n")
        await client.write(head + b"\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 100")
        await client.write(body)
        assert (await client.response())[0] == 200

    async def test_pipelined(self, gateway, engine):
        client = await gateway.connect()
        await client.write(post(CHAT_BODY, *OFFERS["java"]) * 3)
        for _ in range(3):
            assert (await client.response())[0] == 200
        assert len(engine.seen) == 3

    async def test_it_may_close_all_the_same(self, gateway):
        said = await gateway.send(post(CHAT_BODY, b"connection: close, upgrade", b"upgrade: h2c"))
        assert b"connection: close" in said

    async def test_the_head_is_bounded(self, gateway):
        answer = await gateway.exchange(post(CHAT_BODY, b"x: " + b"y" * 5000, *OFFERS["java"]))
        assert refused(answer)[0] == 431

    async def test_connect_is_refused(self, gateway):
        status, error = refused(await gateway.exchange(b"CONNECT a:443 HTTP/1.1\r\n\r\n"))
        assert status == 400
        assert "proxy" in error["message"]
