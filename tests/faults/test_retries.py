"""Who is asked again, when, and what the client is told if nobody can answer."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from tests.support.inprocess import routing, serving
from tests.support.upstream import (
    CHAT,
    ENGINE_MODEL,
    STORY,
    Pause,
    Reset,
    Send,
    Silence,
    completion,
    data,
    failing,
    reply,
    response,
    scripted,
    stream,
)

BOTH = pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])


def good(streamed):
    return stream(*STORY) if streamed else CHAT


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
            script = (Send(response(307, b"", ("location", target.url + "/v1/x"))),)
            async with (
                scripted(script) as moved,
                serving(tmp_path, routing(moved)) as gateway,
            ):
                answer = await gateway.chat()
        assert answer.status_code == 502
        assert "location" not in answer.headers
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


CLIENTS_OWN = {
    "OpenAI": (
        reply(
            {
                "error": {
                    "message": "temperature too high",
                    "type": "invalid_request_error",
                    "param": "temperature",
                    "code": "invalid_value",
                }
            },
            400,
        ),
        400,
        {"message": "temperature too high", "param": "temperature", "code": "invalid_value"},
    ),
    "vLLM, flat": (
        reply(
            {
                "object": "error",
                "message": "temperature too high",
                "type": "BadRequestError",
                "param": None,
                "code": 400,
            },
            400,
        ),
        400,
        {"message": "temperature too high"},
    ),
    "llama-server": (
        reply(
            {"error": {"code": 400, "message": "bad grammar", "type": "invalid_request_error"}}, 400
        ),
        400,
        {"message": "bad grammar", "code": None},
    ),
    "llama-server, context": (
        reply(
            {
                "error": {
                    "code": 400,
                    "message": "the request exceeds the available context size",
                    "type": "exceed_context_size_error",
                    "n_ctx": 4096,
                }
            },
            400,
        ),
        400,
        {"code": "context_length_exceeded"},
    ),
    "FastAPI": (
        reply({"detail": [{"loc": ["body", "n"], "msg": "must be positive"}]}, 422),
        400,
        {"code": None},
    ),
    "text": ((Send(response(400, b"just no")),), 400, {"message": "just no"}),
    "nothing": ((Send(response(400, b"")),), 400, {}),
    "an unknown answer": (failing(404, "No response with id `r` found"), 404, {}),
    "a conflict": (failing(409, "busy with that"), 409, {"message": "busy with that"}),
    "too large": (failing(413, "image too large"), 413, {"message": "image too large"}),
}


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


class TestClientsOwnMistakes:
    @pytest.mark.parametrize(("script", "status", "fields"), CLIENTS_OWN.values(), ids=CLIENTS_OWN)
    @BOTH
    async def test_are_told_in_the_engines_words_and_not_tried_elsewhere(
        self, tmp_path, script, status, fields, streamed
    ):
        async with (
            scripted(good(streamed)) as other,
            scripted(script) as strict,
            serving(tmp_path, routing(other, strict)) as gateway,
        ):
            answer = await gateway.chat(stream=streamed)
        error = answer.json()["error"]
        assert answer.status_code == status
        assert set(error) == {"message", "type", "param", "code"}
        assert error["message"]
        assert {name: error[name] for name in fields} == fields
        assert error["type"] == "invalid_request_error"
        assert (len(strict.seen), len(other.seen)) == (1, 0)

    async def test_fastapis_reasons_are_readable(self, tmp_path):
        async with (
            scripted(CLIENTS_OWN["FastAPI"][0]) as strict,
            serving(tmp_path, routing(strict)) as gateway,
        ):
            answer = await gateway.chat()
        assert "must be positive" in answer.json()["error"]["message"]

    async def test_do_not_count_against_the_replica(self, tmp_path):
        async with (
            scripted(failing(400)) as strict,
            serving(tmp_path, routing(strict)) as gateway,
        ):
            for _ in range(5):
                await gateway.chat()
            ready = await gateway.client.get("/ready")
        assert ready.status_code == 200
        assert len(strict.seen) == 5


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

    async def test_the_total_timeout_is_over_all_attempts(self, tmp_path):
        model = {
            "timeouts": {"total": "300ms"},
            "retry": {"attempts": 10, "backoff": "10ms", "max_backoff": "10ms"},
        }
        script = (Pause(0.12), *failing(500))
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


class TestTornAnswers:
    async def test_a_deep_error_is_an_error_like_any_other(self, tmp_path):
        body = b'{"error":' + b"[" * 100_000
        async with (
            scripted((Send(response(400, body)),)) as strange,
            serving(tmp_path, routing(strange)) as gateway,
        ):
            answer = await gateway.chat()
        assert answer.status_code == 400

    async def test_a_json_answer_to_a_stream_request_is_handed_on(self, tmp_path):
        async with scripted(CHAT) as plain, serving(tmp_path, routing(plain)) as gateway:
            answer = await gateway.chat(stream=True)
        assert answer.status_code == 200
        assert answer.json()["model"] == "tale"

    async def test_data_for_the_stale_connection_is_not_the_next_answer(self, tmp_path):
        (send,) = CHAT
        greedy = (Send(send.data + response(200, b'{"model":"evil"}')),)
        async with scripted(greedy, CHAT) as odd, serving(tmp_path, routing(odd)) as gateway:
            answers = [(await gateway.chat()).json()["model"] for _ in range(3)]
        assert answers == ["tale"] * 3

    async def test_an_error_event_is_no_answer_of_its_own(self, tmp_path):
        rate = stream(data({"error": {"message": "slow down", "code": 429}}))
        async with scripted(rate) as busy, serving(tmp_path, routing(busy)) as gateway:
            answer = await gateway.chat(stream=True)
        assert answer.status_code == 429
        assert len(busy.seen) == 3

    async def test_a_clients_mistake_told_in_a_stream_is_a_400(self, tmp_path):
        bad = stream(data({"error": {"message": "bad grammar", "code": 400}}))
        async with scripted(bad) as strict, serving(tmp_path, routing(strict)) as gateway:
            answer = await gateway.chat(stream=True)
        assert answer.status_code == 400
        assert answer.json()["error"]["message"] == "bad grammar"
        assert len(strict.seen) == 1
