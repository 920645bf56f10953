from collections.abc import Iterable

import pytest
from prometheus_client.parser import text_string_to_metric_families

from backends.base import Cause, Endpoint
from gateway.telemetry import names
from gateway.telemetry.absences import FORGOTTEN_AFTER
from gateway.telemetry.metrics import Metrics
from gateway.telemetry.record import RequestRecord
from gateway.telemetry.replicas import ReplicaState

ARM = {
    "gen_ai_request_model": "assistant",
    "gateway_variant": "canary",
    "gateway_replica": "http://10.0.0.1:8000",
}


def record(**known: object) -> RequestRecord:
    fields: dict[str, object] = {
        "request_id": "r-1",
        "endpoint": Endpoint.CHAT,
        "started": 100.0,
        "started_at": 1_700_000_000.0,
        "model": "gpt-4o-mini",
        "route": "assistant",
        "variant": "canary",
        "replica": "http://10.0.0.1:8000",
        "status": 200,
        "ended_at": 101.5,
    }
    return RequestRecord(**(fields | known))  # type: ignore[arg-type]


def samples(metrics: Metrics, name: str) -> list[tuple[dict[str, str], float]]:
    text = metrics.render().decode()
    families = text_string_to_metric_families(text)
    return [
        (dict(sample.labels), sample.value)
        for family in families
        for sample in family.samples
        if sample.name == name
    ]


def value(metrics: Metrics, name: str, **labels: str) -> float | None:
    found = [
        number
        for sample, number in samples(metrics, name)
        if all(sample.get(label) == wanted for label, wanted in labels.items())
    ]
    assert len(found) < 2, f"{name} {labels} is not one series"
    return found[0] if found else None


def test_a_request_is_counted_where_it_went() -> None:
    metrics = Metrics("1")
    metrics.request_finished(record())
    metrics.request_finished(record())
    assert samples(metrics, "gateway_requests_total") == [
        (
            ARM
            | {
                "gateway_endpoint": "chat/completions",
                "http_response_status_code": "200",
                "error_type": "",
            },
            2.0,
        )
    ]
    where = ARM | {"gen_ai_operation_name": "chat", "error_type": ""}
    assert value(metrics, "gen_ai_server_request_duration_seconds_sum", **where) == 3.0
    assert value(metrics, "gen_ai_server_request_duration_seconds_count", **where) == 2


def test_a_whole_reply_has_no_time_to_first_token() -> None:
    metrics = Metrics("1")
    metrics.request_finished(record(output_tokens=7))
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_count") == 0
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_count") == 0


def test_a_stream_is_timed_to_its_first_token_and_between_the_others() -> None:
    metrics = Metrics("1")
    metrics.request_finished(
        record(
            stream=True, first_token_at=100.5, input_tokens=20, output_tokens=11, cached_tokens=16
        )
    )
    assert value(metrics, "gen_ai_server_time_to_first_token_seconds_sum") == 0.5
    assert value(metrics, "gen_ai_server_time_per_output_token_seconds_sum") == pytest.approx(0.1)
    tokens = "gen_ai_client_token_usage_sum"
    assert value(metrics, tokens, gen_ai_token_type="input") == 20
    assert value(metrics, tokens, gen_ai_token_type="output") == 11
    assert value(metrics, "gateway_cached_input_tokens_total") == 16


def test_failures_are_told_apart_from_successes() -> None:
    metrics = Metrics("1")
    metrics.request_finished(record())
    metrics.request_finished(record(status=502, cause="reset"))
    metrics.request_finished(record(client_gone=True))
    duration = "gen_ai_server_request_duration_seconds_count"
    for error in ("", "reset", "client_gone"):
        assert value(metrics, duration, error_type=error) == 1
    assert value(metrics, "gateway_requests_total", http_response_status_code="502") == 1


def test_what_a_client_asks_for_never_becomes_a_series() -> None:
    metrics = Metrics("1")
    for number in range(100):
        metrics.request_finished(
            record(
                model=f"made-up-{number}",
                route=None,
                variant=None,
                replica=None,
                status=404,
                cause="model_not_found",
            )
        )
    assert value(metrics, "gateway_requests_total", gen_ai_request_model="") == 100
    assert b"made-up" not in metrics.render()


def test_the_number_of_series_is_bounded_whatever_the_callers_do() -> None:
    metrics = Metrics("1", max_series=5)
    for number in range(50):
        metrics.request_finished(record(cause=f"cause-{number}"))
        attempts = metrics.attempts("assistant", "canary", f"replica-{number}")
        with attempts.in_flight:
            attempts.finished(Endpoint.CHAT, names.OK, 1.0)
    assert len(samples(metrics, "gateway_requests_total")) == 6
    assert value(metrics, "gateway_requests_total", error_type=names.OVERFLOW) == 45
    assert len(samples(metrics, "gateway_attempts_active")) == 6
    assert value(metrics, "gateway_attempts_total", gateway_replica=names.OVERFLOW) == 45


@pytest.mark.slow
def test_causes_of_attempts_are_bounded_too() -> None:
    metrics = Metrics("1")
    attempts = metrics.attempts("assistant", "canary", "r")
    for number in range(1000):
        attempts.finished(Endpoint.CHAT, f"cause-{number}", 1.0)
    assert len(samples(metrics, "gateway_attempts_total")) <= 257
    assert sum(number for _, number in samples(metrics, "gateway_attempts_total")) == 1000


def test_attempts_are_counted_by_cause() -> None:
    metrics = Metrics("1")
    attempts = metrics.attempts(*ARM.values())
    attempts.finished(Endpoint.CHAT, Cause.RESET.value, 0.25)
    attempts.finished(Endpoint.CHAT, names.OK, 1.0)
    attempts.finished(Endpoint.EMBEDDINGS, names.OK, 2.0)
    total = "gateway_attempts_total"
    assert value(metrics, total, gateway_attempt_cause="reset", **ARM) == 1
    assert value(metrics, total, gateway_attempt_cause="ok", **ARM) == 2
    upstream = "gen_ai_client_operation_duration_seconds_sum"
    assert value(metrics, upstream, error_type="reset") == 0.25
    assert value(metrics, upstream, error_type="", gen_ai_operation_name="chat") == 1.0


def test_what_is_in_flight_goes_down_again_also_on_errors() -> None:
    metrics = Metrics("1")
    active = metrics.requests_in_flight(Endpoint.CHAT)
    attempts = metrics.attempts(*ARM.values())
    assert attempts is metrics.attempts(*ARM.values())

    def break_inside() -> None:
        with active, active, attempts.in_flight:
            assert value(metrics, names.REQUESTS_ACTIVE, gateway_endpoint="chat/completions") == 2
            assert value(metrics, names.ATTEMPTS_ACTIVE, **ARM) == 1
            raise RuntimeError

    with pytest.raises(RuntimeError):
        break_inside()
    assert value(metrics, names.REQUESTS_ACTIVE, gateway_endpoint="chat/completions") == 0
    assert value(metrics, names.ATTEMPTS_ACTIVE, **ARM) == 0


def test_replicas_are_read_at_each_scrape() -> None:
    metrics = Metrics("1")
    assert samples(metrics, names.REPLICA_READY) == []
    now: Iterable[ReplicaState] = [ReplicaState("qwen", "http://a:1", ready=False, outstanding=3)]
    metrics.watch_replicas(lambda: now)
    where = {"gateway_backend": "qwen", "gateway_replica": "http://a:1"}
    assert value(metrics, names.REPLICA_READY, **where) == 0
    assert value(metrics, names.REPLICA_OUTSTANDING, **where) == 3
    now = []
    assert samples(metrics, names.REPLICA_OUTSTANDING) == []


def test_what_telemetry_itself_gave_up_is_told() -> None:
    metrics = Metrics("1")
    metrics.watch_drops("access_log", lambda: 7)
    name = "gateway_telemetry_dropped_total"
    assert value(metrics, name, gateway_signal="access_log") == 7


def test_two_gateways_in_one_process_share_nothing() -> None:
    one, other = Metrics("1"), Metrics("2")
    one.request_finished(record())
    assert samples(other, "gateway_requests_total") == []
    assert value(other, "gateway_build_info", version="2") == 1


def test_the_process_and_its_version_are_told() -> None:
    metrics = Metrics("0.1.0")
    assert value(metrics, "gateway_build_info", version="0.1.0") == 1
    assert value(metrics, "python_info") == 1
    assert b"_created" not in metrics.render()


class TestReplicasThatHaveGone:
    """By way of a scrape; two are there at first, and one of them goes."""

    def setup_method(self) -> None:
        self.now = 0.0
        self.there = {"goes", "stays"}
        self.metrics = Metrics("1", max_series=4, clock=lambda: self.now)
        self.metrics.watch_replicas(
            lambda: [ReplicaState("b", one, ready=True, outstanding=0) for one in self.there]
        )
        for replica in sorted(self.there):
            self.finish(replica)

    def finish(self, replica: str) -> None:
        self.metrics.request_finished(record(replica=replica))
        attempts = self.metrics.attempts("assistant", "canary", replica)
        attempts.finished(Endpoint.CHAT, names.OK, 1.0)
        attempts.went_on("replay")
        attempts.wasted(3)

    def scrape(self, after: float) -> set[str]:
        """Of which replicas anything is told."""
        self.now += after
        text = self.metrics.render().decode()
        return {
            sample.labels["gateway_replica"]
            for family in text_string_to_metric_families(text)
            for sample in family.samples
            if "gateway_replica" in sample.labels
        }

    def counted(self, replica: str) -> float | None:
        return value(self.metrics, "gateway_attempts_total", gateway_replica=replica)

    def test_are_forgotten_after_a_while_and_the_others_count_on(self) -> None:
        self.there = {"stays"}
        assert self.scrape(0) == {"goes", "stays"}
        assert self.scrape(FORGOTTEN_AFTER) == {"stays"}
        self.finish("stays")
        assert self.counted("stays") == 2
        assert value(self.metrics, "gateway_requests_total", gateway_replica="stays") == 2

    @pytest.mark.slow
    def test_make_room_for_new_ones(self) -> None:
        for number in range(50):
            self.there = {"stays", f"replica-{number}"}
            self.finish(f"replica-{number}")
            self.scrape(0)
            self.scrape(FORGOTTEN_AFTER)
        assert self.counted("replica-49") == 1
        assert self.counted(names.OVERFLOW) is None

    def test_count_on_where_they_are_back_in_time(self) -> None:
        self.there = {"stays"}
        self.scrape(0)
        self.there = {"goes", "stays"}
        self.scrape(FORGOTTEN_AFTER)
        self.finish("goes")
        assert self.counted("goes") == 2

    def test_begin_anew_where_they_are_back_late(self) -> None:
        self.there = {"stays"}
        self.scrape(0)
        self.scrape(FORGOTTEN_AFTER)
        self.finish("goes")
        assert self.counted("goes") == 1

    def test_keep_what_runs(self) -> None:
        self.there = {"stays"}
        with self.metrics.attempts("assistant", "canary", "goes").in_flight:
            self.scrape(0)
            assert self.scrape(FORGOTTEN_AFTER) == {"goes", "stays"}
        assert self.scrape(0) == {"goes", "stays"}
        assert self.scrape(FORGOTTEN_AFTER) == {"stays"}
