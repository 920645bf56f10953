from __future__ import annotations

import json

import pytest

from gateway.api.headers import for_client, for_engine, request_id
from gateway.wire.fields import Fields
from tests.support.inprocess import ask, post, routing, serving
from tests.support.upstream import completion, reply, scripted

BODY = json.dumps(ask()).encode()

SECRET = [
    b"authorization: Bearer sk-client",
    b"x-api-key: sk-client",
    b"api-key: sk-client",
    b"cookie: session=1",
    b"proxy-authorization: Basic eDp5",
    b"x-forwarded-for: 10.0.0.1",
    b"x-forwarded-host: evil",
    b"x-forwarded-proto: https",
    b"forwarded: for=10.0.0.1",
    b"x-real-ip: 10.0.0.1",
    b"te: trailers",
    b"trailer: x",
    b"keep-alive: timeout=5",
    b"proxy-connection: keep-alive",
    b"upgrade: h2c",
    b"x-gateway-debug: 1",
    b"user-agent: client/1",
    b"origin: http://localhost:3000",
    b"referer: http://evil",
    b"accept-encoding: gzip, br",
    b"x-hop: 1",
    b"x-Hop-Two: 2",
]


class TestToEngine:
    async def test_nothing_private_or_for_one_hop_reaches_it(self, gateway, engine):
        connection = [b"Connection: keep-alive, X-Hop", b"connection: x-hop-two"]
        status, _, _ = await gateway.exchange(post(BODY, *SECRET, *connection))
        assert status == 200
        sent = {line.partition(b":")[0].decode().lower() for line in SECRET}
        seen = dict(engine.seen[0].headers)
        assert set(seen) & sent == {"accept-encoding"}
        assert seen["accept-encoding"] == "identity"
        assert "sk-client" not in str(engine.seen[0].headers)
        assert seen["host"] == engine.id
        assert int(seen["content-length"]) == len(engine.seen[0].body)

    async def test_what_is_the_engines_business_reaches_it(self, gateway, engine):
        await gateway.exchange(post(BODY, b"X-Priority: 5", b"traceparent: 00-x"))
        assert engine.seen[0].header("x-priority") == "5"

    async def test_probes_have_nothing_of_a_client(self, engine, gateway):
        assert engine.probes[0].header("x-request-id") is None

    def test_each_connection_header_counts(self):
        headers = [(b"connection", b"close"), (b"connection", b"X-Hop"), (b"x-hop", b"1")]
        assert [name for name, _ in for_engine(Fields(headers), "r")] == [b"x-request-id"]


class TestRequestId:
    @pytest.mark.parametrize("given", [b"abc", b"a" * 128, b"!~"])
    async def test_a_fit_one_is_kept_on_both_sides(self, gateway, engine, given):
        _, head, _ = await gateway.exchange(post(BODY, b"x-request-id: " + given))
        assert b"x-request-id: " + given + b"\r\n" in head
        assert engine.seen[0].header("x-request-id") == given.decode()

    @pytest.mark.parametrize("given", [b"", b"a" * 129, b"a b", b"a\tb", b"\xff", b"\xc3\xa9"])
    async def test_an_unfit_one_is_replaced_on_both_sides(self, gateway, engine, given):
        _, head, _ = await gateway.exchange(post(BODY, b"x-request-id: " + given))
        seen = engine.seen[0].header("x-request-id")
        assert seen.startswith("req_")
        assert f"x-request-id: {seen}\r\n".encode() in head
        assert [name for name, _ in engine.seen[0].headers].count("x-request-id") == 1

    async def test_refusals_have_one_too(self, gateway):
        for path in ("/v1/chat/completions", "/v1/nothing", "/health/x"):
            answer = await gateway.client.post(path, content=b"{", headers={"x-request-id": "mine"})
            assert answer.headers["x-request-id"] == "mine"

    def test_fresh_ones_differ(self):
        assert request_id(Fields()) != request_id(Fields())


class TestToClient:
    async def test_every_answer_tells_where_it_comes_from(self, gateway, engine):
        answer = await gateway.chat()
        assert answer.headers["x-request-id"].startswith("req_")
        assert answer.headers["x-gateway-variant"] == "default"
        assert answer.headers["x-gateway-replica"] == f"engine@{engine.id}"
        assert answer.headers["x-gateway-attempts"] == "1"
        assert int(answer.headers["openai-processing-ms"]) >= 0
        assert int(answer.headers["content-length"]) == len(answer.content)

    async def test_what_is_not_the_engines_to_say_is_dropped(self, tmp_path):
        script = reply(
            completion(),
            200,
            ("set-cookie", "a=b"),
            ("server", "uvicorn"),
            ("access-control-allow-origin", "*"),
            ("x-gateway-replica", "evil"),
            ("x-request-id", "theirs"),
            ("strict-transport-security", "max-age=1"),
            ("x-hop", "1"),
            ("connection", "x-hop"),
            ("x-ratelimit-limit", "5"),
        )
        async with scripted(script) as engine, serving(tmp_path, routing(engine)) as gateway:
            answer = await gateway.chat()
        said = answer.headers
        for name in ("set-cookie", "server", "access-control-allow-origin", "x-hop"):
            assert name not in said
        assert "strict-transport-security" not in said
        assert said["x-request-id"] != "theirs"
        assert said.get_list("x-gateway-replica") == [f"engine@{engine.id}"]
        assert said["x-ratelimit-limit"] == "5"

    def test_names_of_headers_pass_as_they_came(self):
        assert for_client([(b"x-a", b"1"), (b"content-length", b"2")]) == [(b"x-a", b"1")]

    async def test_a_header_that_cannot_be_repeated_is_no_crash(self, tmp_path):
        script = reply(completion(), 200, ("x-odd", "a\x01b"), ("x odd", "1"))
        async with scripted(script) as engine, serving(tmp_path, routing(engine)) as gateway:
            answer = await gateway.chat()
        assert answer.status_code in (200, 502)
