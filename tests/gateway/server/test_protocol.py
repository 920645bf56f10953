from __future__ import annotations

import asyncio
import contextlib
import json
import time

import pytest

from tests.support.inprocess import ask, post, routing, serving
from tests.support.raw_http import CHAT_BODY, HEALTH, chunked_post, refused
from tests.support.upstream import (
    CHAT,
    STORY,
    STREAM_HEAD,
    Flood,
    Pause,
    Send,
    Silence,
    chunked,
    scripted,
    stream,
    text,
)


class TestHead:
    PIECES = pytest.mark.parametrize("piece", [1 << 20, 1000], ids=["at once", "in pieces"])

    @PIECES
    @pytest.mark.parametrize(
        "data",
        [
            b"GET /health HTTP/1.1\r\nx: " + b"x" * 5000 + b"\r\n\r\n",
            b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\n\r\n",
            b"GET /health HTTP/1.1\r\n" + b"x: y\r\n" * 1000 + b"\r\n",
        ],
        ids=["a value", "the target", "many"],
    )
    @pytest.mark.parametrize("earlier", [0, 1], ids=["first", "second"])
    async def test_too_large_is_431(self, gateway, data, piece, earlier):
        client = await gateway.connect()
        for _ in range(earlier):
            await client.write(HEALTH)
            await client.response()
        answer = asyncio.create_task(client.response())
        with contextlib.suppress(ConnectionError):
            for start in range(0, len(data), piece):
                await client.write(data[start : start + piece])
                await asyncio.sleep(0.005)
        status, error = refused(await answer)
        assert (status, error["code"]) == (431, "headers_too_large")
        assert "4096" in error["message"]

    async def test_one_that_never_ends_is_refused_before_it_does(self, gateway):
        client = await gateway.connect()
        await client.write(b"GET /health HTTP/1.1\r\n")
        for _ in range(5):
            await client.write(b"x: " + b"x" * 1000)
        status, _ = refused(await client.response())
        assert status == 431

    async def test_a_large_body_is_not_taken_for_a_large_head(self, gateway):
        body = json.dumps(ask(padding="x" * 20_000)).encode()
        status, _, _ = await gateway.exchange(post(body))
        assert status == 200

    @pytest.mark.slow
    @pytest.mark.parametrize("start", [b"GET /he", b"GET /health HTTP/1.1\r\nhost: g\r\n", b"\r\n"])
    @pytest.mark.parametrize("earlier", [0, 1], ids=["first", "second"])
    async def test_too_slow_is_408(self, gateway, start, earlier):
        client = await gateway.connect()
        for _ in range(earlier):
            await client.write(HEALTH)
            await client.response()
        await client.write(start)
        status, error = refused(await client.response(2.0))
        assert (status, error["code"]) == (408, "request_timeout")
        assert await client.rest() == b""

    @pytest.mark.slow
    async def test_dripping_does_not_buy_time(self, gateway):
        client = await gateway.connect()
        answer = asyncio.create_task(client.response())
        with contextlib.suppress(ConnectionError):
            for byte in b"GET /health HTTP":
                await client.write(bytes([byte]))
                await asyncio.sleep(0.05)
        status, _ = refused(await answer)
        assert status == 408

    @pytest.mark.slow
    async def test_a_client_that_never_asks_is_let_go_without_a_word(self, gateway):
        client = await gateway.connect()
        assert await client.rest(2.0) == b""

    @pytest.mark.slow
    async def test_an_idle_connection_stays(self, gateway):
        client = await gateway.connect()
        for _ in range(2):
            await client.write(HEALTH)
            assert (await client.response())[0] == 200
            await asyncio.sleep(0.5)

    @pytest.mark.slow
    async def test_a_body_that_nobody_waits_for_must_come_too(self, gateway):
        client = await gateway.connect()
        await client.write(b"POST /v1/nothing HTTP/1.1\r\ncontent-length: 1000\r\n\r\n")
        assert (await client.response())[0] == 404
        await client.write(b"x")
        assert await client.rest(2.0) == b""


MALFORMED = {
    "no HTTP": b"hello there\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "an absurd method": b"BREW /health HTTP/1.1\r\n\r\n",
    "two lengths": post(b"{}", b"content-length: 3"),
    "twice the same length": post(b"{}", b"content-length: 2"),
    "a length and a coding": post(b"{}", b"transfer-encoding: chunked"),
    "a length that is none": b"POST /v1/completions HTTP/1.1\r\ncontent-length: abc\r\n\r\n",
    "a negative length": b"POST /v1/completions HTTP/1.1\r\ncontent-length: -1\r\n\r\n",
    "a signed length": b"POST /v1/completions HTTP/1.1\r\ncontent-length: +2\r\n\r\n{}",
    "lengths in a list": b"POST /v1/completions HTTP/1.1\r\ncontent-length: 2, 2\r\n\r\n{}",
    "a huge length": b"POST /health HTTP/1.1\r\ncontent-length: 99999999999999999999\r\n\r\n",
    "an unknown coding": b"POST /health HTTP/1.1\r\ntransfer-encoding: chunked, x\r\n\r\n",
    "NUL in a value": b"GET /health HTTP/1.1\r\nx: a\0b\r\n\r\n",
    "a control character in a name": b"GET /health HTTP/1.1\r\nx\x01: a\r\n\r\n",
    "a space before the colon": b"POST /health HTTP/1.1\r\ncontent-length : 2\r\n\r\n{}",
    "a folded value": b"GET /health HTTP/1.1\r\nx: a\r\n b\r\n\r\n",
    "a bare LF in a value": b"GET /health HTTP/1.1\r\nx: a\ny: b\r\n\r\n",
    "a bare CR in a value": b"GET /health HTTP/1.1\r\nx: a\ry: b\r\n\r\n",
    "a header without a name": b"GET /health HTTP/1.1\r\n: a\r\n\r\n",
    "HTTP/9": b"GET /health HTTP/9.0\r\n\r\n",
    "a target with spaces": b"GET /a b HTTP/1.1\r\n\r\n",
    "a target of raw bytes": b"GET /\xff\xfe HTTP/1.1\r\n\r\n",
}


class TestMalformed:
    @pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED)
    async def test_is_400_in_our_shape_and_ends_the_connection(self, gateway, engine, data):
        client = await gateway.connect()
        await client.write(data)
        status, error = refused(await client.response())
        assert status == 400
        assert set(error) == {"message", "type", "param", "code"}
        assert await client.rest() == b""
        assert engine.seen == []

    @pytest.mark.parametrize(
        "body",
        [b"zz\r\n", b"-1\r\n", b"2\r\n{}xx\r\n0\r\n\r\n", b"2 \n{}\r\n", b"2;\n{}\r\n0\r\n\r\n"],
    )
    async def test_bad_chunks_are_400(self, gateway, engine, body):
        head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
        client = await gateway.connect()
        await client.write(head + body)
        assert refused(await client.response())[0] == 400
        assert await client.rest() == b""
        assert engine.seen == []

    async def test_a_request_inside_a_body_is_not_one(self, gateway, engine):
        inner = post(CHAT_BODY)
        body = json.dumps(ask(text="\r\n\r\n" + inner.decode())).encode()
        client = await gateway.connect()
        await client.write(post(body) + HEALTH)
        assert (await client.response())[0] == 200
        status, _, health = await client.response()
        assert (status, json.loads(health)) == (200, {"status": "ok"})
        assert len(engine.seen) == 1

    async def test_garbage_after_a_request_is_not_written_into_its_answer(self, tmp_path):
        script = stream(*STORY[:2], Pause(0.2), *STORY[2:])
        async with scripted(script) as slow, serving(tmp_path, routing(slow)) as running:
            client = await running.connect()
            await client.write(post(json.dumps(ask(stream=True)).encode()))
            await client.head()
            await client.write(b"garbage\r\n\r\n")
            assert b"HTTP/1.1 400" not in await client.rest()


class TestProtocol:
    async def test_expect_100_continue(self, gateway):
        client = await gateway.connect()
        head, _, body = post(CHAT_BODY, b"expect: 100-continue").partition(b"\r\n\r\n")
        await client.write(head + b"\r\n\r\n")
        assert (await client.head()).startswith(b"HTTP/1.1 100")
        await client.write(body)
        assert (await client.response())[0] == 200

    async def test_one_who_expects_is_refused_before_he_sends(self, gateway):
        client = await gateway.connect()
        head = post(b"x", b"expect: 100-continue").replace(b"length: 1", b"length: 99999999")
        await client.write(head[:-1])
        assert refused(await client.response())[0] == 413

    async def test_a_chunked_body_is_taken(self, gateway, engine):
        head = post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
        middle = len(CHAT_BODY) // 2
        pieces = b"".join(
            b"%x\r\n%s\r\n" % (len(piece), piece)
            for piece in (CHAT_BODY[:middle], CHAT_BODY[middle:])
        )
        status, _, _ = await gateway.exchange(head + pieces + b"0\r\n\r\n")
        assert status == 200
        assert engine.seen[0].body.count(b'"Hello"') == 1

    async def test_a_request_may_come_byte_by_byte(self, gateway):
        client = await gateway.connect()
        for byte in post(CHAT_BODY):
            client.writer.write(bytes([byte]))
            await asyncio.sleep(0)
        assert (await client.response())[0] == 200

    async def test_head_has_no_body_and_options_says_what_is_allowed(self, gateway):
        head = await gateway.send(b"HEAD /health HTTP/1.1\r\nconnection: close\r\n\r\n")
        assert head.partition(b"\r\n\r\n")[2] == b""
        options = await gateway.client.options("/v1/chat/completions")
        assert options.status_code == 204
        assert "POST" in options.headers["allow"]

    async def test_an_upgrade_is_not_taken(self, gateway):
        for protocol in (b"websocket", b"h2c"):
            status, _, _ = await gateway.exchange(
                HEALTH[:-2] + b"connection: upgrade\r\nupgrade: " + protocol + b"\r\n\r\n"
            )
            assert status == 200

    async def test_http_1_0_is_answered_and_closed(self, gateway):
        said = await gateway.send(HEALTH.replace(b"1.1", b"1.0"))
        assert said.endswith(b'{"status":"ok"}')

    async def test_a_server_name_is_not_told(self, gateway):
        answer = await gateway.client.get("/health")
        assert "server" not in answer.headers


async def pour(client, piece, times):
    """Write until all is written or the other side has had enough; bytes written."""
    written = 0
    with contextlib.suppress(ConnectionError, TimeoutError):
        for _ in range(times):
            await asyncio.wait_for(client.write(piece), 1)
            written += len(piece)
    return written


class TestOldClients:
    """HTTP/1.0 knows no chunks: what comes until the end of the connection is the body."""

    async def old(self, gateway, body):
        asked = post(body).replace(b"HTTP/1.1", b"HTTP/1.0", 1)
        head, _, answer = (await gateway.send(asked)).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert b"connection: close" in head.lower()
        return answer

    async def test_get_a_stream_without_frames(self, tmp_path):
        async with (
            scripted(stream(*STORY)) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await self.old(gateway, json.dumps(ask(stream=True)).encode())
        assert answer.startswith(b"data: {")
        assert answer.endswith(b"data: [DONE]\n\n")
        assert all(line.startswith(b"data: ") for line in answer.split(b"\n") if line)

    async def test_get_a_whole_answer_as_ever(self, tmp_path):
        async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
            answer = await self.old(gateway, CHAT_BODY)
        assert json.loads(answer)["choices"]


class TestTrailers:
    MANY = b"x: " + b"y" * 1000 + b"\r\n"

    async def test_they_are_no_headers(self, gateway, engine):
        await gateway.exchange(chunked_post(CHAT_BODY, trailers=b"X-Late: 1\r\n\r\n"))
        assert len(engine.seen) == 1
        assert engine.seen[0].header("x-late") is None

    async def test_they_may_contradict_the_head_without_effect(self, gateway, engine):
        late = b"content-type: text/plain\r\nx-request-id: late\r\n\r\n"
        status, head, _ = await gateway.exchange(chunked_post(CHAT_BODY, trailers=late))
        assert status == 200
        assert b"late" not in head

    async def test_the_next_request_has_headers_again(self, gateway, engine):
        client = await gateway.connect()
        await client.write(chunked_post(CHAT_BODY, trailers=b"x: y\r\n\r\n"))
        assert (await client.response())[0] == 200
        await client.write(post(CHAT_BODY, b"x-mine: 1"))
        assert (await client.response())[0] == 200
        assert engine.seen[1].header("x-mine") == "1"

    @pytest.mark.parametrize("endless", [MANY, b"y" * 1000], ids=["many", "one"])
    async def test_too_large_is_431(self, gateway, engine, endless):
        client = await gateway.connect()
        await client.write(chunked_post(CHAT_BODY, trailers=b"x: y\r\ny: "))
        answer = asyncio.create_task(client.response())
        with contextlib.suppress(ConnectionError):
            for _ in range(10):
                await client.write(endless)
                await asyncio.sleep(0.005)
        assert refused(await answer)[0] == 431
        assert engine.seen == []

    @pytest.mark.parametrize("endless", [MANY * 50, b"y" * 50_000], ids=["many", "one"])
    async def test_behind_an_answer_they_end_the_connection(self, tmp_path, engine, endless):
        document = routing(engine, keys={"one": {"value": "a-secret-of-ours"}})
        async with serving(tmp_path, document) as running:
            client = await running.connect()
            await client.write(chunked_post(trailers=b"x: y\r\ny: "))
            assert (await client.response())[0] == 401
            assert await pour(client, endless, 1000) < 20 << 20  # what sockets hold, at most
            with contextlib.suppress(ConnectionError):
                assert await client.rest() == b""


class TestPipelining:
    async def test_requests_are_answered_in_their_order(self, gateway, engine):
        client = await gateway.connect()
        await client.write(post(CHAT_BODY) * 3 + HEALTH)
        for _ in range(3):
            status, _, body = await client.response()
            assert (status, b"chat.completion" in body) == (200, True)
        assert (await client.response())[2] == b'{"status":"ok"}'
        assert len(engine.seen) == 3

    LINES = pytest.mark.parametrize(
        "line",
        [post(b"x" * 200_000), HEALTH * 20, post(b"x" * 60_000)],
        ids=["large", "many", "small"],
    )

    @LINES
    async def test_a_client_that_leaves_its_line_is_noticed(self, tmp_path, line):
        async with scripted((Silence(),)) as silent, serving(tmp_path, routing(silent)) as running:
            client = await running.connect()
            await client.write(post(CHAT_BODY))
            seen = await silent.asked()
            await client.write(line)
            await asyncio.sleep(0.1)
            left = time.monotonic()
            client.reset()
            assert await seen.gone(2.0) - left < 0.5

    @pytest.mark.slow
    @pytest.mark.parametrize("size", [70_000, 20 << 20])
    async def test_a_line_that_takes_memory_is_dropped(self, tmp_path, size):
        script = (Pause(0.3), *CHAT)
        async with scripted(script) as slow, serving(tmp_path, routing(slow)) as running:
            client = await running.connect()
            await client.write(post(CHAT_BODY))
            await slow.asked()
            await pour(client, post(b"x" * size), 1)
            status, head, body = await client.response()
            assert status == 200
            assert b"connection: close" in head
            assert b"chat.completion" in body
            with contextlib.suppress(ConnectionError):
                assert await client.rest() == b""
            assert len(slow.seen) == 1


class TestWriteTimeout:
    @pytest.mark.slow
    async def test_a_slow_reader_that_reads_is_not_cut_off(self, tmp_path):
        server = {"limits": {"write_timeout": "300ms"}}
        flood = (Send(STREAM_HEAD), Flood(chunked(text("x" * 16_000)), 256 << 20))
        async with (
            scripted(flood) as engine,
            serving(tmp_path, routing(engine, server=server)) as running,
        ):
            client = await running.connect()
            await client.write(post(json.dumps(ask(stream=True)).encode()))
            for _ in range(10):
                await client.reader.readexactly(1 << 20)
                await asyncio.sleep(0.1)
            assert not engine.seen[0].left.is_set()
