"""Every metric, label, span and attribute name, and every bucket. No name is spelled elsewhere.

Rules of this file:

- Where the OpenTelemetry GenAI conventions name a thing, that name is used
  (https://github.com/open-telemetry/semantic-conventions-genai; still in development, and the
  constants of the old package are deprecated, hence spelled here). What they do not name lives
  under `gateway`.
- A Prometheus label is the attribute's name with underscores for dots, so one noun serves spans
  and metrics. A Prometheus metric is the convention's name with its unit.
- Label values come from the configuration or from enums, never from a client. A label that does
  not apply is empty, which no configured name can be.
"""

from __future__ import annotations

from typing import Final

from backends.base import Endpoint

# Attributes of spans.
OPERATION: Final = "gen_ai.operation.name"
PROVIDER: Final = "gen_ai.provider.name"
REQUEST_MODEL: Final = "gen_ai.request.model"
REQUEST_STREAM: Final = "gen_ai.request.stream"
INPUT_TOKENS: Final = "gen_ai.usage.input_tokens"
CACHED_TOKENS: Final = "gen_ai.usage.cache_read.input_tokens"
OUTPUT_TOKENS: Final = "gen_ai.usage.output_tokens"
TIME_TO_FIRST_CHUNK: Final = "gen_ai.response.time_to_first_chunk"
TOKEN_TYPE: Final = "gen_ai.token.type"
ERROR_TYPE: Final = "error.type"
SERVER_ADDRESS: Final = "server.address"
SERVER_PORT: Final = "server.port"
HTTP_METHOD: Final = "http.request.method"
HTTP_ROUTE: Final = "http.route"
HTTP_STATUS: Final = "http.response.status_code"
REQUEST_ID: Final = "gateway.request.id"
ENDPOINT: Final = "gateway.endpoint"
ROUTE: Final = "gateway.route"
VARIANT: Final = "gateway.variant"
REPLICA: Final = "gateway.replica"
BACKEND: Final = "gateway.backend"
ADAPTER: Final = "gateway.adapter"
PRINCIPAL: Final = "gateway.principal"
ATTEMPT: Final = "gateway.attempt"
ATTEMPTS: Final = "gateway.attempts"
ATTEMPT_CAUSE: Final = "gateway.attempt.cause"
PASSED_OVER: Final = "gateway.passed_over"
FAILOVERS: Final = "gateway.failovers"
WAY: Final = "gateway.way"
PRIORITY: Final = "gateway.priority"
REASON: Final = "gateway.reason"
HEDGE_RESULT: Final = "gateway.hedge.result"
SIGNAL: Final = "gateway.signal"
STATE: Final = "gateway.state"
CONDITION: Final = "gateway.condition"
EJECTED_BY: Final = "gateway.ejected_by"

# What a span or a metric says of itself.
SERVICE: Final = "gateway"
SCOPE: Final = "gateway.telemetry"
TRACEPARENT: Final = b"traceparent"
TRACESTATE: Final = b"tracestate"

# Values.
OK: Final = "ok"
CLIENT_GONE: Final = "client_gone"
CANCELLED: Final = "cancelled"
OVERTAKEN: Final = "overtaken"
"""Of an attempt: another one had content first."""
HEDGE_WON: Final = "won"
HEDGE_LOST: Final = "lost"
HEDGE_FAILED: Final = "failed"
OVERFLOW: Final = "_other"
"""The label value of everything beyond the bound on the number of series."""
INPUT: Final = "input"
OUTPUT: Final = "output"

OPERATIONS: Final[dict[Endpoint, str]] = {
    Endpoint.CHAT: "chat",
    Endpoint.RESPONSES: "chat",
    Endpoint.MESSAGES: "chat",
    Endpoint.COMPLETIONS: "text_completion",
    Endpoint.EMBEDDINGS: "embeddings",
    Endpoint.COUNT_TOKENS: "count_tokens",
    Endpoint.RERANK: "rerank",
}
"""`gen_ai.operation.name` per endpoint; the last two have no name in the conventions."""

# Metrics, in Prometheus form.
REQUESTS: Final = "gateway_requests"
REQUESTS_ACTIVE: Final = "gateway_requests_active"
ATTEMPTS_TOTAL: Final = "gateway_attempts"
PASSED_OVER_TOTAL: Final = "gateway_passed_over"
FAILOVERS_TOTAL: Final = "gateway_failovers"
ADMISSION_INSIDE: Final = "gateway_admission_inside"
ADMISSION_PLACES: Final = "gateway_admission_places"
ADMISSION_WAITING: Final = "gateway_admission_waiting"
ADMISSION_REFUSED: Final = "gateway_admission_refused"
ADMISSION_WAIT: Final = "gateway_admission_wait_seconds"
HEDGES_TOTAL: Final = "gateway_hedges"
WASTED_TOKENS: Final = "gateway_wasted_tokens"
CACHED_INPUT_TOKENS: Final = "gateway_cached_input_tokens"
ATTEMPTS_ACTIVE: Final = "gateway_attempts_active"
REPLICA_READY: Final = "gateway_replica_ready"
REPLICA_CONDITION: Final = "gateway_replica_condition"
REPLICA_EJECTIONS: Final = "gateway_replica_ejections"
REPLICA_OUTSTANDING: Final = "gateway_replica_outstanding"
REPLICA_WEIGHT: Final = "gateway_replica_weight"
REPLICA_PENDING_TOKENS: Final = "gateway_replica_pending_tokens"
REPLICA_PROMPT_TOKENS: Final = "gateway_replica_prompt_tokens"
REPLICA_KNOWN_TOKENS: Final = "gateway_replica_known_prompt_tokens"
REPLICA_FIRST_TOKEN: Final = "gateway_replica_time_to_first_token_seconds"
REPLICA_PREFILL_RATE: Final = "gateway_replica_prefill_tokens_per_second"
REPLICA_DECODE_RATE: Final = "gateway_replica_decode_tokens_per_second"
REPLICA_SATURATED: Final = "gateway_replica_saturated"
REPLICA_RUNNING: Final = "gateway_replica_reported_running"
REPLICA_WAITING: Final = "gateway_replica_reported_waiting"
REPLICA_KV_USAGE: Final = "gateway_replica_reported_kv_cache_usage_ratio"
REPLICA_DEMAND_AGE: Final = "gateway_replica_report_age_seconds"
ADAPTER_READY: Final = "gateway_adapter_ready"
ENGINE_RUNNING: Final = "gateway_engine_running"
ENGINE_WAITING: Final = "gateway_engine_waiting"
ENGINE_LONGEST_WAIT: Final = "gateway_engine_longest_wait_seconds"
ENGINE_QUEUE_TIME: Final = "gateway_engine_queue_time_seconds"
ENGINE_KV_TOKENS: Final = "gateway_engine_kv_cache_tokens"
ENGINE_KV_PLANNED: Final = "gateway_engine_kv_cache_planned_tokens"
ENGINE_CACHE_QUERIES: Final = "gateway_engine_prefix_cache_queries"
ENGINE_CACHE_HITS: Final = "gateway_engine_prefix_cache_hits"
ENGINE_STEPS: Final = "gateway_engine_steps"
ENGINE_CACHE_BYTES: Final = "gateway_engine_prefix_cache_bytes"
ENGINE_STATE: Final = "gateway_engine_state"
ENGINE_RESTARTS: Final = "gateway_engine_restarts"
ENGINE_MEMORY: Final = "gateway_engine_memory_bytes"
RELOAD_SUCCESSFUL: Final = "gateway_config_last_reload_successful"
DISCOVERY_SUCCESSFUL: Final = "gateway_discovery_last_look_successful"
TELEMETRY_DROPPED: Final = "gateway_telemetry_dropped"
BUILD: Final = "gateway_build"
SERVER_REQUEST_DURATION: Final = "gen_ai_server_request_duration_seconds"
SERVER_TIME_TO_FIRST_TOKEN: Final = "gen_ai_server_time_to_first_token_seconds"
SERVER_TIME_PER_OUTPUT_TOKEN: Final = "gen_ai_server_time_per_output_token_seconds"
CLIENT_OPERATION_DURATION: Final = "gen_ai_client_operation_duration_seconds"
CLIENT_TOKEN_USAGE: Final = "gen_ai_client_token_usage"

# Buckets, as the conventions advise them: seconds, and tokens.
DURATION_BUCKETS: Final = (
    0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92,
)  # fmt: skip
FIRST_TOKEN_BUCKETS: Final = (
    0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0,
)  # fmt: skip
OUTPUT_TOKEN_BUCKETS: Final = (
    0.01, 0.025, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 2.5,
)  # fmt: skip
TOKEN_BUCKETS: Final = tuple(float(4**power) for power in range(14))


def label(attribute: str) -> str:
    """The Prometheus label of an attribute."""
    return attribute.replace(".", "_")


MODEL_LABELS: Final = tuple(map(label, (REQUEST_MODEL, VARIANT, REPLICA)))
"""What every per-request series is told apart by: the route's name, the arm and the instance."""
REQUEST_LABELS: Final = (label(ENDPOINT), *MODEL_LABELS, label(HTTP_STATUS), label(ERROR_TYPE))
OPERATION_LABELS: Final = (label(OPERATION), *MODEL_LABELS)
DURATION_LABELS: Final = (*OPERATION_LABELS, label(ERROR_TYPE))
TOKEN_LABELS: Final = (*OPERATION_LABELS, label(TOKEN_TYPE))
ATTEMPT_LABELS: Final = (*MODEL_LABELS, label(ATTEMPT_CAUSE))
PASSED_OVER_LABELS: Final = (label(REQUEST_MODEL), label(VARIANT), label(REASON))
FAILOVER_LABELS: Final = (*MODEL_LABELS, label(WAY))
GATE_LABELS: Final = (label(REQUEST_MODEL),)
CLASS_LABELS: Final = (*GATE_LABELS, label(PRIORITY))
REFUSED_LABELS: Final = (*CLASS_LABELS, label(REASON))
HEDGE_LABELS: Final = (label(REQUEST_MODEL), label(HEDGE_RESULT))
REPLICA_LABELS: Final = (label(BACKEND), label(REPLICA))
SOURCE_LABELS: Final = (label(BACKEND),)
ADAPTER_LABELS: Final = (*REPLICA_LABELS, label(ADAPTER))


def span_name(operation: str, model: str | None) -> str:
    """`{operation} {model}`; the model is a configured name, so the number of names is bounded."""
    return f"{operation} {model}" if model else operation
