"""Every path that clients see, on one screen, and the Litestar application made of them."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Mapping, Sequence

import msgspec
from litestar import Litestar, MediaType, Request, Response, get, post
from litestar.handlers import HTTPRouteHandler
from litestar.openapi import OpenAPIConfig
from litestar.params import FromPath
from litestar.types import ASGIApp, Receive, Scope, Send

from backends.base import Endpoint
from gateway import __version__
from gateway.api.auth import Authenticator
from gateway.api.headers import of
from gateway.api.http_errors import EXCEPTION_HANDLERS
from gateway.api.models import list_models, show_model
from gateway.api.openapi import operation_for
from gateway.control.drain import Drain
from gateway.control.readiness import report
from gateway.control.state import State
from gateway.errors import GatewayError
from gateway.routing.principal import Principal
from gateway.telemetry.metrics import CONTENT_TYPE, Metrics

INFERENCE_ROUTES = {
    "/v1/chat/completions": Endpoint.CHAT,
    "/v1/completions": Endpoint.COMPLETIONS,
    "/v1/embeddings": Endpoint.EMBEDDINGS,
    "/v1/responses": Endpoint.RESPONSES,
    "/v1/messages": Endpoint.MESSAGES,
    "/v1/messages/count_tokens": Endpoint.COUNT_TOKENS,
    "/v1/rerank": Endpoint.RERANK,
}


def build_api(
    inference: Mapping[Endpoint, ASGIApp],
    *,
    authenticator: Authenticator,
    state: State,
    drain: Drain,
    metrics: Metrics,
    admin: Sequence[HTTPRouteHandler] = (),
) -> ASGIApp:
    """The application. `inference` answers the endpoints, `admin` what it has; the rest is here."""
    shortcuts = {path: inference[endpoint] for path, endpoint in INFERENCE_ROUTES.items()}
    framework = Litestar(
        route_handlers=[
            *(_inference_route(path, app) for path, app in shortcuts.items()),
            *_model_routes(authenticator, state),
            *_operation_routes(authenticator, state, drain, metrics),
            *admin,
        ],
        exception_handlers=EXCEPTION_HANDLERS,
        openapi_config=OpenAPIConfig(title="Gateway", version=__version__, path="/docs"),
        # Litestar's default would have httpx log every request.
        logging_config=None,
    )
    return _front_door(shortcuts, framework)


def _model_routes(authenticator: Authenticator, state: State) -> list[HTTPRouteHandler]:
    """What there is to ask for."""

    def principal(request: Request) -> Principal | None:  # type: ignore[type-arg]
        return authenticator.identify(state.snapshot.config.keys, of(request.scope))

    @get("/v1/models", summary="List the models", tags=["models"], sync_to_thread=False)
    def models(request: Request) -> Response[bytes]:  # type: ignore[type-arg]
        return _json(list_models(state.snapshot, principal(request)))

    @get("/v1/models/{name:path}", summary="Show one model", tags=["models"], sync_to_thread=False)
    def model(request: Request, name: FromPath[str]) -> Response[bytes]:  # type: ignore[type-arg]
        return _json(show_model(state.snapshot, principal(request), name.removeprefix("/")))

    return [models, model]


def _operation_routes(
    authenticator: Authenticator, state: State, drain: Drain, metrics: Metrics
) -> list[HTTPRouteHandler]:
    """How it is doing."""

    def is_known(request: Request) -> bool:  # type: ignore[type-arg]
        """Whether the names of models and replicas are this caller's to see."""
        try:
            authenticator.identify(state.snapshot.config.keys, of(request.scope))
        except GatewayError:
            return False
        return True

    @get("/health", summary="Is the gateway alive?", tags=["operations"], sync_to_thread=False)
    def health() -> Response[bytes]:
        return _json({"status": "ok"})

    @get("/ready", summary="May it take traffic?", tags=["operations"], sync_to_thread=False)
    def ready(request: Request) -> Response[bytes]:  # type: ignore[type-arg]
        said = report(state.snapshot, drain.phase, time.monotonic())
        body = said if is_known(request) else {"ready": said.ready, "reason": said.reason}
        return _json(body, 200 if said.ready else 503)

    @get("/metrics", summary="Prometheus metrics", tags=["operations"], sync_to_thread=False)
    def exposition() -> Response[bytes]:
        return Response(metrics.render(), headers={"content-type": CONTENT_TYPE})

    return [health, ready, exposition]


def _front_door(shortcuts: Mapping[str, ASGIApp], framework: ASGIApp) -> ASGIApp:
    """Lead the inference requests past the framework, to the very apps that its routes lead to.

    Its routing, request object, exit stack and wrapped `send` cost 30 CPU-µs a request, a fifth
    of all that the gateway may; everything else, other methods on these paths among it, takes
    the long way.
    """

    def front_door(scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        shortcut = shortcuts.get(scope["path"])
        method = scope.get("method")
        if shortcut is not None and method == "POST":
            return shortcut(scope, receive, send)
        if method == "HEAD":
            # What answers GET answers HEAD, which monitors like; the server sends no body.
            return framework({**scope, "method": "GET"}, receive, send)  # type: ignore[arg-type]
        return framework(scope, receive, send)

    return front_door


def _inference_route(path: str, app: ASGIApp) -> HTTPRouteHandler:
    operation = operation_for(INFERENCE_ROUTES[path])

    @post(path, operation_class=operation, sync_to_thread=False, status_code=200)
    def handler() -> ASGIApp:
        return app

    return handler


def _json(value: object, status: int = 200) -> Response[bytes]:
    body = msgspec.json.encode(value)
    return Response(body, status_code=status, media_type=MediaType.JSON)
