from __future__ import annotations

import asyncio
import ssl

import pytest
import trustme

from backends import openai_http
from backends.base import BackendError, Cause, Endpoint, Request, Stage
from backends.load import Demand
from backends.openai_http import OpenAIHttpBackend
from backends.options import OpenAIOptions
from backends.secret import Secret
from tests.support.upstream import Reset, Send, Silence, scripted

OK = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 2\r\n\r\n{}"
KEY = "sk-very-private"


def answer(status, body=b"{}", headers=b""):
    return b"HTTP/1.1 %d X\r\n%scontent-length: %d\r\n\r\n%s" % (status, headers, len(body), body)


def chat(body=b'{"model":"m"}', headers=(), **options):
    return Request(endpoint=Endpoint.CHAT, body=body, headers=headers, **options)


def opened(*replicas, api_key=None):
    options = OpenAIOptions(replicas=replicas, api_key=Secret(api_key) if api_key else None)
    return options.open("any")


async def ask(backend, request=None):
    reply = await backend.send(backend.addresses[0], request or chat())
    try:
        return reply.status, list(reply.headers), b"".join([piece async for piece in reply.body])
    finally:
        await reply.body.aclose()


def test_one_replica_twice_is_refused():
    with pytest.raises(ValueError, match="twice"):
        opened("http://h:1", "http://h:1/v1")


def test_its_key_is_hidden_however_it_is_written():
    backend = opened("http://h:1", api_key='a"b')
    assert backend.without_secrets("http://h:1", rb'{"m": "a\"b"} a"b') == b'{"m": "***"} ***'


class TestSend:
    @pytest.mark.parametrize("endpoint", Endpoint)
    async def test_every_endpoint_has_its_path_below_the_prefix(self, start_peer, step, endpoint):
        async with start_peer([step.READ, OK, step.LOOP]) as peer:
            backend = opened(peer.url + "/engine/v1")
            await ask(backend, Request(endpoint=endpoint, body=b"{}"))
            await backend.stop()
        assert peer.requests[0].startswith(b"POST /engine/v1/%s HTTP/1.1\r\n" % endpoint.encode())

    async def test_the_head_is_ours_and_the_body_untouched(self, start_peer, step):
        body = '{"model":"m","ü": [1,  2]}'.encode()
        async with start_peer([step.READ, OK, step.LOOP]) as peer:
            backend = opened(peer.url, api_key=KEY)
            await ask(backend, chat(body, [(b"x-request-id", b"abc"), (b"traceparent", b"00-1")]))
            await backend.stop()
        host = peer.url.removeprefix("http://").encode()
        head, sent = peer.requests[0].split(b"\r\n\r\n")
        assert head.split(b"\r\n")[1:] == [
            b"host: " + host,
            b"content-type: application/json",
            b"accept-encoding: identity",
            b"authorization: Bearer " + KEY.encode(),
            b"x-request-id: abc",
            b"traceparent: 00-1",
            b"content-length: %d" % len(body),
        ]
        assert sent == body

    async def test_what_is_not_the_clients_to_say_is_dropped(self, start_peer, step):
        smuggled = [
            (b"authorization", b"Bearer client"),
            (b"host", b"elsewhere"),
            (b"content-length", b"0"),
            (b"transfer-encoding", b"chunked"),
            (b"connection", b"close"),
            (b"accept-encoding", b"gzip"),
            (b"expect", b"100-continue"),
            (b"upgrade", b"h2c"),
        ]
        async with start_peer([step.READ, OK, step.LOOP]) as peer:
            backend = opened(peer.url)
            await ask(backend, chat(headers=smuggled))
            await backend.stop()
        for name, value in smuggled:
            assert name + b": " + value not in peer.requests[0]
        assert b"authorization" not in peer.requests[0]

    @pytest.mark.parametrize("status", [200, 400, 404, 429, 500, 501, 503])
    async def test_any_status_is_a_reply(self, start_peer, step, status):
        async with start_peer([step.READ, answer(status, b"why", b"retry-after: 3\r\n")]) as peer:
            backend = opened(peer.url)
            got = await ask(backend)
            await backend.stop()
        assert (got[0], got[2]) == (status, b"why")
        assert (b"retry-after", b"3") in got[1]

    async def test_hop_by_hop_headers_end_here(self, start_peer, step):
        hop = (
            b"Connection: keep-alive, X-Internal\r\nKeep-Alive: timeout=5\r\nX-Internal: 1\r\n"
            b"Proxy-Authenticate: x\r\nX-Kept: 1\r\n"
        )
        async with start_peer([step.READ, answer(200, b"{}", hop), step.LOOP]) as peer:
            backend = opened(peer.url)
            assert (await ask(backend))[1] == [(b"x-kept", b"1"), (b"content-length", b"2")]
            await backend.stop()

    async def test_an_answer_compressed_unasked_is_an_error(self, start_peer, step):
        zipped = answer(200, b"\x1f\x8b", b"Content-Encoding: gzip\r\n")
        async with start_peer([step.READ, zipped, step.LOOP]) as peer:
            backend = opened(peer.url)
            with pytest.raises(BackendError, match="compressed") as caught:
                await ask(backend)
            assert (caught.value.stage, caught.value.cause) == (Stage.SENT, Cause.PROTOCOL)
            await backend.stop()

    async def test_a_unix_socket_will_do(self, start_peer, step, tmp_path):
        path = tmp_path / "engine.sock"
        async with start_peer([step.READ, OK, step.LOOP], path=path) as peer:
            backend = opened(f"unix:{path}")
            assert (await ask(backend))[0] == 200
            assert peer.requests[0].startswith(b"POST /v1/chat/completions HTTP/1.1\r\nhost: loc")
            await backend.stop()

    async def test_closing_the_reply_stops_the_engine(self, start_peer, step):
        head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n"
        async with start_peer([step.READ, head, step.HANG]) as peer:
            backend = opened(peer.url)
            reply = await backend.send(peer.url, chat(stream=True))
            assert await anext(aiter(reply.body)) == b"one"
            await reply.body.aclose()
            await asyncio.wait_for(peer.hung_up.wait(), 1)
            with pytest.raises(BackendError):
                await anext(aiter(reply.body))

    async def test_cancelling_stops_the_engine(self, start_peer, step):
        async with start_peer([step.READ, step.HANG]) as peer:
            backend = opened(peer.url)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(backend.send(peer.url, chat()), 0.1)
            await asyncio.wait_for(peer.hung_up.wait(), 1)


class TestErrors:
    @pytest.mark.parametrize(
        ("script", "stage", "cause"),
        [
            (["READ", "CLOSE"], Stage.SENT, Cause.RESET),
            (["READ", "RESET"], Stage.SENT, Cause.RESET),
            (["READ", b"HTTP/1.1 2", "CLOSE"], Stage.SENT, Cause.RESET),
            (["READ", b"nonsense\r\n\r\n", "HANG"], Stage.SENT, Cause.PROTOCOL),
            (["READ", OK[:-1], "CLOSE"], Stage.STREAMING, Cause.RESET),
            (["READ", OK[:-1], "RESET"], Stage.STREAMING, Cause.RESET),
            (
                ["READ", b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", b"x", "HANG"],
                None,
                Cause.PROTOCOL,
            ),
        ],
    )
    async def test_the_stage_says_how_far_it_came(self, start_peer, step, script, stage, cause):
        async with start_peer([step[s] if isinstance(s, str) else s for s in script]) as peer:
            backend = opened(peer.url)
            with pytest.raises(BackendError, match=peer.url) as caught:
                await ask(backend)
            # The head and a broken first chunk may come in one read or in two.
            assert caught.value.stage in ((stage,) if stage else (Stage.SENT, Stage.STREAMING))
            assert caught.value.cause is cause

    async def test_nobody_listens(self, start_peer, step):
        async with start_peer([step.HANG]) as peer:
            backend = opened(peer.url, api_key=KEY)
        with pytest.raises(BackendError, match="refused") as caught:
            await ask(backend)
        assert (caught.value.stage, caught.value.cause) == (Stage.CONNECT, Cause.REFUSED)
        assert KEY not in str(caught.value)

    async def test_an_unknown_host(self):
        backend = opened("http://no-such-host.invalid:1")
        with pytest.raises(BackendError, match=r"no-such-host\.invalid") as caught:
            await ask(backend)
        assert (caught.value.stage, caught.value.cause) == (Stage.CONNECT, Cause.REFUSED)

    async def test_a_connection_takes_too_long(self, start_peer, step):
        async with start_peer([step.HANG]) as peer:
            backend = opened(peer.url.replace("http:", "https:"))
            with pytest.raises(BackendError) as caught:
                await ask(backend, chat(connect_timeout=0.1))
        assert (caught.value.stage, caught.value.cause) == (Stage.CONNECT, Cause.CONNECT_TIMEOUT)

    async def test_a_certificate_nobody_vouches_for(self, start_peer, step):
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        trustme.CA().issue_cert("127.0.0.1").configure_cert(context)
        async with start_peer([step.READ, OK], tls=context) as peer:
            backend = opened(peer.url)
            with pytest.raises(BackendError, match="not trusted") as caught:
                await ask(backend)
        assert (caught.value.stage, caught.value.cause) == (Stage.CONNECT, Cause.TLS)

    async def test_a_header_that_cannot_be_sent_never_is(self, start_peer, step):
        async with start_peer([step.READ, OK]) as peer:
            backend = opened(peer.url)
            with pytest.raises(BackendError) as caught:
                await ask(backend, chat(headers=[(b"x-request-id", b"a\r\nx: y")]))
            assert (caught.value.stage, caught.value.cause) == (Stage.CONNECT, Cause.PROTOCOL)
            assert peer.accepted == 0

    async def test_stopping_cuts_replies(self, start_peer, step):
        async with start_peer([step.READ, OK[:-1], step.HANG]) as peer:
            backend = opened(peer.url)
            reply = await backend.send(peer.url, chat())
            pieces = aiter(reply.body)
            await anext(pieces)
            waiting = asyncio.create_task(anext(pieces))
            await asyncio.sleep(0)
            await backend.stop()
            with pytest.raises(BackendError) as caught:
                await waiting
            assert caught.value.stage is Stage.STREAMING


class TestProbe:
    @pytest.mark.parametrize(
        ("status", "ready", "reason"),
        [
            (200, True, ""),
            (404, True, ""),
            (401, False, "misconfigured: the engine refuses the api_key (HTTP 401): look at"),
            (403, False, "misconfigured: the engine refuses the api_key (HTTP 403): look at"),
            (307, False, "misconfigured: it redirects (HTTP 307), which is not followed"),
            (500, False, "HTTP 500"),
            (503, False, "HTTP 503"),
        ],
    )
    async def test_a_status_has_a_meaning(self, start_peer, step, status, ready, reason):
        async with start_peer([step.READ, answer(status), step.LOOP]) as peer:
            backend = opened(peer.url, api_key=KEY)
            readiness = await backend.probe(peer.url)
            await backend.stop()
        assert readiness.ready is ready
        assert readiness.reason.startswith(reason)
        assert peer.requests[0].startswith(b"GET /v1/models HTTP/1.1\r\n")
        assert KEY.encode() in peer.requests[0]

    async def test_a_missing_key_is_told_from_a_wrong_one(self, start_peer, step):
        async with start_peer([step.READ, answer(401), step.LOOP]) as peer:
            backend = opened(peer.url)
            assert "wants an api_key" in (await backend.probe(peer.url)).reason
            await backend.stop()

    async def test_it_is_told_where_the_key_is_from_and_not_what_it_is(self, start_peer, step):
        key = Secret(KEY, "${ENGINE_KEY}")
        async with start_peer([step.READ, answer(401), step.LOOP]) as peer:
            backend = OpenAIHttpBackend("e", OpenAIOptions(replicas=(peer.url,), api_key=key))
            reason = (await backend.probe(peer.url)).reason
            await backend.stop()
        assert reason.endswith("(HTTP 401): look at `backends.e.api_key`, which is ${ENGINE_KEY}")
        assert KEY not in reason

    async def test_it_waits_no_longer_than_it_must(self, start_peer, step, monkeypatch):
        monkeypatch.setattr(openai_http, "PROBE_TIMEOUT", 0.1)
        async with start_peer([step.READ, step.HANG]) as peer:
            backend = opened(peer.url)
            readiness = await backend.probe(peer.url)
            await asyncio.wait_for(peer.hung_up.wait(), 1)
        assert (readiness.ready, readiness.reason) == (False, "no answer within 0.1 s")

    async def test_nobody_listens(self, start_peer, step):
        async with start_peer([step.HANG]) as peer:
            backend = opened(peer.url)
        readiness = await backend.probe(peer.url)
        assert not readiness.ready
        assert "connection refused" in readiness.reason

    async def test_an_endless_answer_is_not_read(self, start_peer, step):
        async with start_peer([step.READ, answer(200, bytes(8 << 20)), step.HANG]) as peer:
            backend = opened(peer.url)
            readiness = await backend.probe(peer.url)
            assert "more than" in readiness.reason
            await asyncio.wait_for(peer.hung_up.wait(), 1)


class TestDemand:
    PAGE = b"sglang:num_running_reqs 2.0\nsglang:num_queue_reqs 1.0\n"

    async def demand(self, *script):
        async with scripted(probe=script) as engine:
            backend = opened(engine.url)
            found = await backend.demand(engine.url)
            await backend.stop()
        assert engine.probes[0].path == "/metrics"
        return found

    async def test_what_its_metrics_say(self):
        assert await self.demand(Send(answer(200, self.PAGE))) == Demand(running=2, waiting=1)

    @pytest.mark.parametrize(
        "script",
        [(Send(answer(404, PAGE)),), (Send(answer(200)),), (Reset(),), (Silence(),)],
        ids=["404", "others", "reset", "silence"],
    )
    async def test_one_that_does_not_say_is_not_idle(self, script, monkeypatch):
        monkeypatch.setattr(openai_http, "PROBE_TIMEOUT", 0.1)
        assert await self.demand(*script) is None

    async def test_nor_is_one_that_is_not_there(self):
        address = "http://127.0.0.1:1"
        assert await opened(address).demand(address) is None


def test_a_backend_does_not_show_its_key():
    backend = opened("http://h", api_key=KEY)
    assert isinstance(backend, OpenAIHttpBackend)
    assert KEY not in repr(backend)
    assert KEY not in repr(OpenAIOptions(replicas=("http://h",), api_key=Secret(KEY)))
