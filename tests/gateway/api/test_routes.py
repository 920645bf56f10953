from __future__ import annotations

import pytest
from prometheus_client.parser import text_string_to_metric_families

from gateway.api.routes import INFERENCE_ROUTES
from tests.support.inprocess import routing, serving
from tests.support.upstream import failing, scripted


class TestPaths:
    @pytest.mark.parametrize("path", ["/", "/v1", "/v1/nothing", "/chat/completions", "/v2/models"])
    async def test_one_that_does_not_exist_is_404_in_our_shape(self, gateway, path):
        for method in ("GET", "POST"):
            answer = await gateway.client.request(method, path)
            error = answer.json()["error"]
            assert (answer.status_code, error["code"]) == (404, "not_found")
            assert path in error["message"]

    @pytest.mark.parametrize("path", INFERENCE_ROUTES)
    async def test_a_method_that_does_not_fit_is_405(self, gateway, path):
        for method in ("GET", "PUT", "DELETE", "PATCH"):
            answer = await gateway.client.request(method, path)
            assert answer.status_code == 405
            assert answer.json()["error"]["message"]

    @pytest.mark.parametrize("path", ["/health", "/ready", "/v1/models", "/metrics"])
    async def test_what_answers_get_answers_head_without_a_body(self, gateway, path):
        asked = f"HEAD {path} HTTP/1.1\r\nhost: g\r\nconnection: close\r\n\r\n"
        head, _, body = (await gateway.send(asked.encode())).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 ")
        assert body == b""

    @pytest.mark.parametrize(
        "path", ["/v1/../v1/models", "/v1/models/../../health", "/v1/%2e%2e/health"]
    )
    async def test_tricks_with_the_path_lead_nowhere(self, gateway, path):
        status, _, _ = await gateway.exchange(f"GET {path} HTTP/1.1\r\nhost: g\r\n\r\n".encode())
        assert status in (400, 404)

    async def test_the_api_describes_itself(self, gateway):
        page = await gateway.client.get("/docs")
        assert page.status_code == 200
        document = (await gateway.client.get("/docs/openapi.json")).json()
        assert set(INFERENCE_ROUTES) <= set(document["paths"])
        chat = document["paths"]["/v1/chat/completions"]["post"]
        assert "application/json" in chat["requestBody"]["content"]
        assert "/v1/models" in document["paths"]

    async def test_metrics_can_be_read_by_prometheus(self, gateway):
        await gateway.chat()
        await gateway.chat(model="unheard-of")
        answer = await gateway.client.get("/metrics")
        families = {family.name for family in text_string_to_metric_families(answer.text)}
        assert families
        assert answer.headers["content-type"].startswith("text/plain")
        assert "unheard-of" not in answer.text


class TestReady:
    async def test_says_yes_with_each_model(self, gateway):
        answer = await gateway.client.get("/ready")
        assert answer.status_code == 200
        said = answer.json()
        assert list(said.pop("replicas").values()) == ["ready"]
        assert said == {"ready": True, "reason": "ready", "models": {"tale": "ready"}}

    async def test_says_no_with_the_reason(self, tmp_path):
        async with (
            scripted(probe=failing(503)) as engine,
            serving(tmp_path, routing(engine)) as gateway,
        ):
            answer = await gateway.client.get("/ready")
            alive = await gateway.client.get("/health")
        assert answer.status_code == 503
        assert "503" in answer.json()["models"]["tale"]
        assert alive.status_code == 200
