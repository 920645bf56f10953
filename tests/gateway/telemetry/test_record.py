import pytest

from backends.base import Endpoint
from gateway.telemetry.record import RequestRecord


def record(**known: object) -> RequestRecord:
    fields: dict[str, object] = {
        "request_id": "r-1",
        "endpoint": Endpoint.CHAT,
        "started": 100.0,
        "started_at": 1_700_000_000.0,
    }
    return RequestRecord(**(fields | known))  # type: ignore[arg-type]


def test_a_request_that_never_ended_took_no_time() -> None:
    assert record().duration == 0


def test_times_are_relative_to_the_start() -> None:
    it = record(first_token_at=100.5, ended_at=102.5, output_tokens=5)
    assert it.duration == 2.5
    assert it.time_to_first_token == 0.5
    assert it.time_per_output_token == 0.5


@pytest.mark.parametrize(
    "known",
    [
        {"output_tokens": 5},
        {"output_tokens": 5, "first_token_at": 101.0},
        {"output_tokens": 1, "first_token_at": 101.0, "ended_at": 102.0},
        {"first_token_at": 101.0, "ended_at": 102.0},
        {"output_tokens": 5, "first_token_at": 101.0, "ended_at": 102.0, "cause": "reset"},
        {"output_tokens": 5, "first_token_at": 101.0, "ended_at": 102.0, "client_gone": True},
    ],
)
def test_time_per_token_is_known_of_whole_counted_streams_only(known: dict[str, object]) -> None:
    assert record(**known).time_per_output_token is None


@pytest.mark.parametrize(
    ("known", "error"),
    [
        ({}, ""),
        ({"client_gone": True}, "client_gone"),
        ({"cause": "reset"}, "reset"),
        ({"cause": "reset", "client_gone": True}, "reset"),
    ],
)
def test_the_error_type_says_why(known: dict[str, object], error: str) -> None:
    assert record(**known).error_type == error


def test_what_the_client_asked_for_is_shown_cut() -> None:
    assert record(model="m" * 1_000_000).model_shown == "m" * 128
