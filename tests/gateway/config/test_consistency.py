"""Keys that contradict each other, and those that only look like it."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.config import Config

Problems = Callable[..., list[str]]
Load = Callable[..., Config]

BACKEND = "backends: {b: {use: openai, replicas: [http://h]}}\n"
MODEL = "models: {m: {backend: b}}\n"


def model(keys: str) -> str:
    return f"{BACKEND}models: {{m: {{backend: b, {keys}}}}}\n"


def outliers(keys: str) -> str:
    detection = f"outlier_detection: {{{keys}}}"
    return f"backends: {{b: {{use: openai, replicas: [http://h], {detection}}}}}\n{MODEL}"


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            "queue: {size: 3}",
            "queue: nobody waits in it without `concurrency`; say how many may be answered at a "
            "time, such as concurrency: 32, or drop it",
        ),
        (
            "balance: session, sticky: none",
            "balance: `session` has nothing to go by with `sticky: none`; say what a session is, "
            "such as sticky: conversation, or take balance: random",
        ),
        (
            "timeouts: {first_token: 11m}",
            "timeouts.first_token: is longer than `total`, which comes first; at most 10m, or a "
            "longer `total`",
        ),
        (
            "timeouts: {total: 1s, idle: 1500ms}",
            "timeouts.idle: is longer than `total`, which comes first; at most 1s",
        ),
        ("timeouts: {total: 1s, connect: 2s}", "timeouts.connect: is longer than `total`"),
        ("retry: {backoff: 3s}", "retry.max_backoff: is shorter than `backoff`; at least 3s"),
        ("budget: {}", "budget: is empty; give `ttft`, `total` or both"),
        (
            "budget: {ttft: 9s, total: 8s}",
            "budget.ttft: is longer than `total`, which the first token is part of; at most 8s",
        ),
        (
            "budget: {ttft: 61s}",
            "budget.ttft: is longer than `timeouts.first_token`, which comes first; at most 60s, "
            "or a longer `timeouts.first_token`",
        ),
        (
            "budget: {total: 20s}, timeouts: {total: 10s}",
            "budget.total: is longer than `timeouts.total`, which comes first; at most 10s",
        ),
        (
            "hedge: {after: 90s}",
            "hedge.after: is longer than `timeouts.first_token`, which comes first; at most 60s",
        ),
        (
            "hedge: {after: 300}",
            "hedge.after: expected a percentile of the route's times to the first token, from p50 "
            "to p99, or a duration in ms or s, such as 300ms, found 300",
        ),
        ("hedge: {after: p30}", 'to p99, or a duration in ms or s, such as 300ms, found "p30"'),
        ("hedge: {after: 2m}", 'or a duration in ms or s, such as 300ms, found "2m"'),
    ],
)
def test_models_that_contradict_themselves(problems: Problems, keys: str, said: str) -> None:
    (problem,) = problems(model(keys))
    assert problem.startswith("routing.yaml:2: models.m.")
    assert said in problem


@pytest.mark.parametrize(
    "keys",
    [
        "concurrency: 2, queue: {size: 3}",
        "balance: session, sticky: user",
        "sticky: none",
        "timeouts: {total: 1s}",
        "timeouts: {total: 1s, first_token: 1s, idle: 1s, connect: 1s}",
        "budget: {ttft: 8s, total: 8s}",
        "budget: {ttft: 90s}, timeouts: {first_token: 90s}",
        "timeouts: {first_token: 1s}, hedge: {}",
        "timeouts: {first_token: 1s}, hedge: {after: 500ms}",
    ],
)
def test_defaults_and_what_fits_are_no_mistakes(load_text: Load, keys: str) -> None:
    load_text(model(keys))


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (
            "base_ejection_time: 10m",
            "base_ejection_time: `base_ejection_time`, 10m, is longer than `max_ejection_time`, "
            "5m; give both, the second at least as long",
        ),
        ("max_ejection_time: 10s", "max_ejection_time: `base_ejection_time`, 30s, is longer"),
        (
            "success_rate_stdev_factor: 1.9",
            "success_rate_stdev_factor: is in thousandths of a standard deviation, found 1.9; for "
            "1.9 deviations write 1900; for none, 0",
        ),
        (
            "latency_factor: 0.5",
            "latency_factor: expected at least 1, found 0.5; it multiplies the others' median",
        ),
    ],
)
def test_outlier_detection_that_makes_no_sense(problems: Problems, keys: str, said: str) -> None:
    (problem,) = problems(outliers(keys))
    assert problem.startswith("routing.yaml:1: backends.b.outlier_detection.")
    assert said in problem


@pytest.mark.parametrize(
    "keys",
    [
        "base_ejection_time: 10m, max_ejection_time: 10m",
        "success_rate_stdev_factor: 0, latency_factor: 0",
        "success_rate_stdev_factor: 100, latency_factor: 1",
    ],
)
def test_outlier_detection_at_its_bounds(load_text: Load, keys: str) -> None:
    load_text(outliers(keys))
