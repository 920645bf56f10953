"""What a status says: who is asked again, and what the client is told."""

from __future__ import annotations

import pytest

from tests.support.inprocess import routing, serving
from tests.support.kinds import BOTH, good
from tests.support.upstream import CHAT, Send, failing, reply, response, scripted


class TestStatuses:
    @pytest.mark.parametrize("status", [408, 429, 502, 504, 529])
    @BOTH
    async def test_once_is_saved_by_the_same_replica(self, tmp_path, status, streamed):
        async with (
            scripted(failing(status), good(streamed)) as once,
            serving(tmp_path, routing(once)) as gateway,
        ):
            answer = await gateway.chat(stream=streamed)
        assert answer.status_code == 200
        assert len(once.seen) == 2
        assert once.seen[0].body == once.seen[1].body

    @pytest.mark.parametrize(
        ("status", "told", "type_"),
        [
            (408, 504, "timeout_error"),
            (429, 429, "rate_limit_error"),
            (500, 502, "upstream_error"),
            (502, 502, "upstream_error"),
            (503, 503, "service_unavailable"),
            (504, 504, "timeout_error"),
            (401, 502, "upstream_error"),
            (403, 502, "upstream_error"),
            (302, 502, "upstream_error"),
        ],
    )
    async def test_for_ever_is_told_once_and_in_our_words(self, tmp_path, status, told, type_):
        async with (
            scripted(failing(status, "because")) as broken,
            serving(tmp_path, routing(broken)) as gateway,
        ):
            answer = await gateway.chat()
        error = answer.json()["error"]
        assert (answer.status_code, error["type"]) == (told, type_)
        assert f"engine@{broken.id}" in error["message"]
        assert ("retry-after" in answer.headers) == (told in (429, 503))
        misconfigured = status in (401, 403, 302)
        assert len(broken.seen) == (1 if misconfigured else 3), "it takes a person, not a retry"

    @BOTH
    async def test_what_an_engine_says_of_its_key_is_not_told_as_the_clients(
        self, tmp_path, streamed
    ):
        async with (
            scripted(failing(401, "Incorrect API key provided: sk-engine")) as broken,
            serving(tmp_path, routing(broken)) as gateway,
        ):
            answer = await gateway.chat(stream=streamed)
        assert answer.status_code == 502
        assert "sk-engine" not in answer.text
        assert "api_key" in answer.json()["error"]["message"]

    async def test_a_redirect_is_not_followed(self, tmp_path):
        async with scripted(CHAT) as target:
            script = (Send(response(307, b"", ("location", target.url + "/v1/x?key=sk-engine"))),)
            async with (
                scripted(script) as moved,
                serving(tmp_path, routing(moved)) as gateway,
            ):
                answer = await gateway.chat()
        assert answer.status_code == 502
        assert "location" not in answer.headers
        assert f"to http://{target.id}," in answer.json()["error"]["message"]
        assert len(moved.seen) == 1, "it would say the same again"
        assert target.seen == []

    @pytest.mark.parametrize(
        "script",
        [
            (Send(response(404, b"<html>404</html>", ("content-type", "text/html"))),),
            reply({"detail": "Not Found"}, 404),
            reply({"detail": "Method Not Allowed"}, 405),
            failing(501, "no embeddings here"),
        ],
        ids=["HTML", "FastAPI", "405", "501"],
    )
    async def test_an_endpoint_that_the_engine_lacks(self, tmp_path, script):
        async with scripted(script) as lacking, serving(tmp_path, routing(lacking)) as gateway:
            answer = await gateway.client.post(
                "/v1/embeddings", json={"model": "tale", "input": "Hello"}
            )
        assert answer.status_code == 501
        assert answer.json()["error"]["code"] == "endpoint_not_supported"
        assert "<html>" not in answer.headers.get("content-type", "")
        assert len(lacking.seen) == 1


class TestAReplicaWithoutTheModel:
    """The table knows the model, so it is not the client's mistake."""

    LACKS_IT = failing(404, "The model `x` does not exist")

    @BOTH
    async def test_another_one_is_asked(self, tmp_path, streamed):
        async with (
            scripted(good(streamed)) as other,
            scripted(self.LACKS_IT) as without,
            serving(tmp_path, routing(other, without)) as gateway,
        ):
            answer = await gateway.chat(stream=streamed)
        assert answer.status_code == 200
        assert (len(without.seen), len(other.seen)) == (1, 1)

    async def test_where_all_lack_it_the_client_is_told(self, tmp_path):
        async with (
            scripted(self.LACKS_IT) as without,
            serving(tmp_path, routing(without)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code == 404
        assert "does not exist" in answer.json()["error"]["message"]
