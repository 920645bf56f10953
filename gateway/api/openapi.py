"""What `/docs` says about the inference endpoints: the fields the gateway itself looks at.

Everything else in a request passes through untouched, so the schema is open.
"""

from __future__ import annotations

from typing import Any

from litestar.openapi.spec import (
    OpenAPIMediaType,
    OpenAPIResponse,
    OpenAPIType,
    Operation,
    RequestBody,
    Schema,
)

from backends.base import Endpoint

_SUMMARIES = {
    Endpoint.CHAT: "Chat completion",
    Endpoint.COMPLETIONS: "Text completion",
    Endpoint.EMBEDDINGS: "Embeddings",
    Endpoint.RESPONSES: "Response",
    Endpoint.MESSAGES: "Message (Anthropic)",
    Endpoint.COUNT_TOKENS: "Count a message's tokens (Anthropic)",
    Endpoint.RERANK: "Rerank",
}

_REQUIRED = {
    Endpoint.CHAT: ["messages"],
    Endpoint.COMPLETIONS: ["prompt"],
    Endpoint.EMBEDDINGS: ["input"],
    Endpoint.RESPONSES: ["input"],
    Endpoint.MESSAGES: ["messages", "max_tokens"],
    Endpoint.COUNT_TOKENS: ["messages"],
    Endpoint.RERANK: ["query", "documents"],
}

_STREAMING = (Endpoint.CHAT, Endpoint.COMPLETIONS, Endpoint.RESPONSES, Endpoint.MESSAGES)


def operation_for(endpoint: Endpoint) -> type[Operation]:
    """The OpenAPI operation of `endpoint`, as the class that Litestar asks for."""

    class InferenceOperation(Operation):
        def __init__(self, **given: Any) -> None:
            super().__init__(**given)
            self.summary = _SUMMARIES[endpoint]
            self.operation_id = endpoint.value.replace("/", "_")
            self.tags = ["inference"]
            self.request_body = RequestBody(
                required=True, content={"application/json": OpenAPIMediaType(_request(endpoint))}
            )
            answer = {"application/json": OpenAPIMediaType(Schema(type=OpenAPIType.OBJECT))}
            if endpoint in _STREAMING:
                text = Schema(type=OpenAPIType.STRING)
                answer["text/event-stream"] = OpenAPIMediaType(text)
            self.responses = {
                "200": OpenAPIResponse(description="The engine's answer", content=answer),
                "default": OpenAPIResponse(
                    description="What went wrong, in the error shape of the endpoint's dialect",
                    content={"application/json": OpenAPIMediaType(Schema(type=OpenAPIType.OBJECT))},
                ),
            }

    return InferenceOperation


def _request(endpoint: Endpoint) -> Schema:
    properties: dict[str, Schema] = {
        "model": Schema(
            type=OpenAPIType.STRING, description="A name or alias from `GET /v1/models`"
        )
    }
    if endpoint in _STREAMING:
        properties["stream"] = Schema(
            type=OpenAPIType.BOOLEAN, description="Answer with server-sent events"
        )
    properties.update({field: Schema() for field in _REQUIRED[endpoint]})
    return Schema(
        type=OpenAPIType.OBJECT,
        properties=dict(properties),
        required=["model", *_REQUIRED[endpoint]],
        additional_properties=True,
    )
