from __future__ import annotations

import asyncio
import contextlib
import gzip
import json

import pytest

from tests.support.inprocess import ask, post

BODY = json.dumps(ask()).encode()
PATH = "/v1/chat/completions"


async def refusal(gateway, **request):
    answer = await gateway.client.post(PATH, **request)
    error = answer.json()["error"]
    return answer.status_code, error["code"], error["message"]


class TestSize:
    async def test_a_declared_body_that_is_too_large_is_not_read(self, gateway, engine):
        client = await gateway.connect()
        await client.write(post(b"").replace(b"length: 0", b"length: 70000"))
        status, head, body = await client.response()
        assert status == 413
        assert b"connection: close" in head
        assert json.loads(body)["error"]["code"] == "request_too_large"
        assert "65536" in json.loads(body)["error"]["message"]
        assert engine.seen == []

    async def test_a_chunked_one_is_read_no_further_than_the_limit(self, gateway, engine):
        client = await gateway.connect()
        await client.write(post(b"").replace(b"content-length: 0", b"transfer-encoding: chunked"))
        for _ in range(5):
            await client.write(b"4000\r\n" + b" " * 0x4000 + b"\r\n")
        status, _, body = await client.response()
        assert status == 413
        assert json.loads(body)["error"]["code"] == "request_too_large"
        assert engine.seen == []

    async def test_the_limit_itself_is_allowed(self, gateway):
        body = BODY + b" " * (65536 - len(BODY))
        assert (await gateway.exchange(post(body)))[0] == 200
        assert (await gateway.exchange(post(body + b" ")))[0] == 413


class TestTime:
    @pytest.mark.parametrize("sent", [0, 10])
    async def test_a_body_that_stops_coming_is_408(self, gateway, engine, sent):
        client = await gateway.connect()
        await client.write(post(BODY)[: sent - len(BODY) if sent else -len(BODY)])
        status, head, body = await client.response()
        assert status == 408
        assert b"connection: close" in head
        assert json.loads(body)["error"]["code"] == "request_timeout"
        assert engine.seen == []

    @pytest.mark.slow
    async def test_one_that_keeps_coming_may_take_its_time(self, gateway):
        client = await gateway.connect()
        whole, piece = post(BODY + b" " * 40_000), 4_000
        for start in range(0, len(whole), piece):
            await client.write(whole[start : start + piece])
            await asyncio.sleep(0.05)
        assert (await client.response())[0] == 200

    @pytest.mark.slow
    async def test_dripping_does_not_buy_time(self, gateway, engine):
        client = await gateway.connect()
        answer = asyncio.create_task(client.response())
        whole = post(BODY)
        start = len(whole) - len(BODY)
        await client.write(whole[:start])
        with contextlib.suppress(ConnectionError):
            for byte in whole[start : start + 10]:
                await asyncio.sleep(0.15)  # less than the 200 ms for which it may be silent
                if answer.done():
                    break
                await client.write(bytes([byte]))
        status, _, body = await answer
        assert status == 408
        assert "too slowly" in json.loads(body)["error"]["message"]
        assert engine.seen == []


class TestType:
    @pytest.mark.parametrize(
        "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", "json"]
    )
    async def test_what_is_said_to_be_no_json_is_415(self, gateway, engine, kind):
        status, code, message = await refusal(gateway, content=BODY, headers={"content-type": kind})
        assert (status, code) == (415, "unsupported_media_type")
        assert "application/json" in message
        assert engine.seen == []

    @pytest.mark.parametrize(
        "kind",
        ["application/json; charset=utf-8", "Application/JSON", "application/vnd.api+json"],
    )
    async def test_json_by_any_name_is_taken(self, gateway, kind):
        headers = {"content-type": kind}
        assert (await gateway.client.post(PATH, content=BODY, headers=headers)).status_code == 200

    async def test_no_type_at_all_is_taken(self, gateway):
        assert (await gateway.client.post(PATH, content=BODY)).status_code == 200

    @pytest.mark.parametrize("coding", ["gzip", "br", "deflate"])
    async def test_a_compressed_body_is_415(self, gateway, engine, coding):
        status, _, message = await refusal(
            gateway, content=gzip.compress(BODY), headers={"content-encoding": coding}
        )
        assert status == 415
        assert "compressed" in message
        assert engine.seen == []


MESSAGES = '"messages":[{"role":"user","content":"x"}]'
BAD = {
    "empty": (b"", "empty_body", None),
    "blank": (b" \n", "empty_body", None),
    "torn": (b'{"model":"tale"', "invalid_json", None),
    "not JSON": (b"model=tale", "invalid_json", None),
    "single quotes": (b"{'model':'tale'}", "invalid_json", None),
    "two values": (b"{}{}", "invalid_json", None),
    "a byte order mark": (b"\xef\xbb\xbf" + BODY, "invalid_json", None),
    "UTF-16": (BODY.decode().encode("utf-16"), "invalid_json", None),
    "no UTF-8 in the model": (b'{"model":"\xff"}', "invalid_json", None),
    "no UTF-8 in a name": (
        b'{"model":"tale","\xff":{"model":1},' + MESSAGES.encode() + b"}",
        "invalid_json",
        None,
    ),
    "NaN": (b'{"model":"tale","x":NaN}', "invalid_json", None),
    "nested too deep": (
        b'{"model":"tale","messages":' + b"[" * 20_000 + b"]" * 20_000 + b"}",
        "invalid_json",
        None,
    ),
    "nested too deep elsewhere": (
        b'{"model":"tale",' + MESSAGES.encode() + b',"x":' + b'{"a":' * 9_000,
        "invalid_json",
        None,
    ),
    "a list": (b"[]", "invalid_type", None),
    "a string": (b'"hello"', "invalid_type", None),
    "null": (b"null", "invalid_type", None),
    "model is a number": (b'{"model":5}', "invalid_type", "model"),
    "model is null": (b'{"model":null}', "invalid_type", "model"),
    "stream is a string": (b'{"model":"tale","stream":"yes"}', "invalid_type", "stream"),
    "n is a string": (b'{"model":"tale","n":"2"}', "invalid_type", "n"),
    "no model": (b"{" + MESSAGES.encode() + b"}", "missing_required_parameter", "model"),
    "an empty model": (
        b'{"model":"",' + MESSAGES.encode() + b"}",
        "missing_required_parameter",
        "model",
    ),
    "no messages": (b'{"model":"tale"}', "missing_required_parameter", "messages"),
    "messages are empty": (b'{"model":"tale","messages":[ ]}', "empty_array", "messages"),
    "messages are empty, at length": (
        b'{"model":"tale","messages":[' + b" " * 40 + b"]}",
        "empty_array",
        "messages",
    ),
    "messages are null": (b'{"model":"tale","messages":null}', "invalid_type", "messages"),
    "messages are text": (b'{"model":"tale","messages":"Hello"}', "invalid_type", "messages"),
    "messages are an object": (b'{"model":"tale","messages":{}}', "invalid_type", "messages"),
}


class TestContent:
    @pytest.mark.parametrize(("body", "code", "param"), BAD.values(), ids=BAD)
    async def test_a_mistake_is_400_and_named(self, gateway, engine, body, code, param):
        answer = await gateway.client.post(PATH, content=body)
        error = answer.json()["error"]
        assert (answer.status_code, error["code"], error["param"]) == (400, code, param)
        assert error["type"] == "invalid_request_error"
        assert "Traceback" not in answer.text
        assert engine.seen == []

    @pytest.mark.parametrize(
        ("path", "field"),
        [("completions", "prompt"), ("embeddings", "input"), ("messages", "messages")],
    )
    async def test_each_endpoint_wants_its_own_field(self, gateway, path, field):
        answer = await gateway.client.post(f"/v1/{path}", json={"model": "tale"})
        assert answer.status_code == 400
        assert f"`{field}`" in answer.json()["error"]["message"]
