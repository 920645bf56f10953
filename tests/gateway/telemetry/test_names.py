import re

import pytest

from backends.base import Endpoint
from gateway.telemetry import names

METRIC = re.compile(r"^(gen_ai|gateway)_[a-z_]+$")


def test_every_endpoint_has_an_operation() -> None:
    assert set(names.OPERATIONS) == set(Endpoint)


@pytest.mark.parametrize(
    "buckets",
    [
        names.DURATION_BUCKETS,
        names.FIRST_TOKEN_BUCKETS,
        names.OUTPUT_TOKEN_BUCKETS,
        names.TOKEN_BUCKETS,
    ],
)
def test_buckets_rise(buckets: tuple[float, ...]) -> None:
    assert list(buckets) == sorted(set(buckets))


def test_token_buckets_are_those_of_the_conventions() -> None:
    assert names.TOKEN_BUCKETS[:4] == (1, 4, 16, 64)
    assert names.TOKEN_BUCKETS[-1] == 67108864


def test_labels_are_attributes_with_underscores() -> None:
    assert names.label(names.REQUEST_MODEL) == "gen_ai_request_model"
    assert names.MODEL_LABELS == ("gen_ai_request_model", "gateway_variant", "gateway_replica")


def test_metrics_are_in_the_conventions_or_the_projects_namespace() -> None:
    for metric in (names.REQUESTS, names.SERVER_REQUEST_DURATION, names.TELEMETRY_DROPPED):
        assert METRIC.match(metric)


@pytest.mark.parametrize(
    ("model", "name"), [("assistant", "chat assistant"), (None, "chat"), ("", "chat")]
)
def test_a_span_is_named_after_a_configured_model_only(model: str | None, name: str) -> None:
    assert names.span_name("chat", model) == name
