"""The client's own mistakes are told once, in the engine's words, whatever their shape."""

from __future__ import annotations

import pytest

from tests.support.answers import events
from tests.support.inprocess import routing, serving
from tests.support.kinds import BOTH, good
from tests.support.upstream import STORY, Send, data, failing, reply, response, scripted, stream

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


AZURES = {
    "message": "The prompt triggered a content management policy.",
    "type": None,
    "param": "prompt",
    "code": "content_filter",
    "status": 400,
    "innererror": {
        "code": "ResponsibleAIPolicyViolation",
        "content_filter_result": {"violence": {"filtered": True, "severity": "medium"}},
    },
}


class TestRefusalsOfContent:
    """By a content policy: whatever stands in them, the client has a use for it."""

    @pytest.mark.parametrize("status", [400, 403])
    @pytest.mark.parametrize("path", ["chat/completions", "responses"])
    @BOTH
    async def test_are_handed_on_whole(self, tmp_path, status, path, streamed):
        async with (
            scripted(good(streamed)) as other,
            scripted(reply({"error": AZURES}, status)) as strict,
            serving(tmp_path, routing(other, strict)) as gateway,
        ):
            answer = await gateway.client.post(
                f"/v1/{path}",
                json={"model": "tale", "stream": streamed, "input": "Hi", "messages": [{}]},
            )
        assert (answer.status_code, answer.json()) == (status, {"error": AZURES})
        assert (len(strict.seen), len(other.seen)) == (1, 0)

    async def test_within_a_stream_too(self, tmp_path):
        script = stream(STORY[0], data({"error": AZURES}))
        async with scripted(script) as strict, serving(tmp_path, routing(strict)) as gateway:
            answer = await gateway.chat(stream=True)
        assert (answer.status_code, answer.json()) == (400, {"error": AZURES})

    async def test_behind_the_first_text_too(self, tmp_path):
        script = stream(*STORY[:2], data({"error": AZURES}))
        async with scripted(script) as strict, serving(tmp_path, routing(strict)) as gateway:
            answer = await gateway.chat(stream=True)
        assert events(answer.text)[-1] == {"error": AZURES}

    async def test_have_anthropics_shape_for_its_clients(self, tmp_path):
        async with (
            scripted(reply({"error": AZURES}, 400)) as strict,
            serving(tmp_path, routing(strict)) as gateway,
        ):
            answer = await gateway.client.post(
                "/v1/messages",
                json={"model": "tale", "max_tokens": 8, "messages": [{"role": "user"}]},
            )
        told = {**AZURES, "type": "invalid_request_error"}
        assert (answer.status_code, answer.json()) == (400, {"type": "error", "error": told})

    @pytest.mark.parametrize("said_in", ["an error", "a 200", "a stream", "a stream with text"])
    async def test_tell_nobody_the_gateways_own_key(self, tmp_path, said_in):
        key = 'sk-the-"gateways"/own'
        told = {**AZURES, "message": f"not with {key}", "request": {"key": f"Bearer {key}"}}
        script = {
            "an error": reply({"error": told}, 400),
            "a 200": reply({"error": told}, 200),
            "a stream": stream(STORY[0], data({"error": told})),
            "a stream with text": stream(*STORY[:2], data({"error": told})),
        }[said_in]
        async with scripted(script) as strict:
            document = routing(strict)
            document["backends"]["engine"]["api_key"] = "${KEY}"
            async with serving(tmp_path, document, {"KEY": key}) as gateway:
                answer = await gateway.chat(stream="stream" in said_in)
        assert ("authorization", f"Bearer {key}") in strict.seen[0].headers
        assert "gateways" not in answer.text
        error = (events(answer.text)[-1] if "text" in said_in else answer.json())["error"]
        hidden = {**told, "message": "not with ***", "request": {"key": "Bearer ***"}}
        assert error == hidden
