"""Keys of one entry that contradict each other: what is written would silently do nothing.

Rules of this file:

- A mistake is told where it was written. A default never is one: beside a `total` that is shorter,
  the default of `first_token` just has nothing to say.
- What would be right is told in the numbers of that very file.
"""

from __future__ import annotations

from backends.options import HttpOptions
from backends.options.health import OutlierDetection
from backends.units import Duration
from gateway.config.problems import Path, Report
from gateway.config.structs import Config, LatencyBudget, Model

_LEAST_STDEV_FACTOR = 100
"""Thousandths: a tenth of a deviation. Less would eject by chance, and 1.9 was meant as 1900."""


def check_consistency(config: Config, report: Report) -> None:
    """Look through models and backends."""
    for name, model in config.models.items():
        path: Path = ("models", name)
        _idle_keys(path, model, report)
        _timeouts(path, model, report)
        _budget((*path, "budget"), model, report)
        _hedge((*path, "hedge", "after"), model, report)
    for name, options in config.backends.items():
        if isinstance(options, HttpOptions):
            path = ("backends", name, "outlier_detection")
            _outlier_detection(path, options.outlier_detection, report)


def _idle_keys(path: Path, model: Model, report: Report) -> None:
    """Keys that lack another one."""
    queue = (*path, "queue")
    if report.written(queue) and not report.written((*path, "concurrency")):
        hint = "say how many may be answered at a time, such as concurrency: 32, or drop it"
        report.add(queue, "nobody waits in it without `concurrency`", hint)
    if model.balance == "session" and model.sticky == "none":
        hint = "say what a session is, such as sticky: conversation, or take balance: random"
        report.add((*path, "balance"), "`session` has nothing to go by with `sticky: none`", hint)


def _timeouts(path: Path, model: Model, report: Report) -> None:
    total, retry = model.timeouts.total, model.retry
    for name in ("connect", "first_token", "idle"):
        key = (*path, "timeouts", name)
        _never_reached(key, getattr(model.timeouts, name), "total", total, report)
    if retry.max_backoff < retry.backoff:
        hint = f"at least {retry.backoff.written()}"
        report.add((*path, "retry", "max_backoff"), "is shorter than `backoff`", hint)


def _budget(path: Path, model: Model, report: Report) -> None:
    budget, timeouts = model.budget, model.timeouts
    if budget is None or report.within(path):
        return
    if budget == LatencyBudget():
        report.add(path, "is empty", "give `ttft`, `total` or both")
    if budget.ttft is not None and budget.total is not None and budget.ttft > budget.total:
        what = "is longer than `total`, which the first token is part of"
        report.add((*path, "ttft"), what, f"at most {budget.total.written()}")
    elif budget.ttft is not None:
        bound, named = timeouts.first_token, "timeouts.first_token"
        _never_reached((*path, "ttft"), budget.ttft, named, bound, report)
    if budget.total is not None:
        _never_reached((*path, "total"), budget.total, "timeouts.total", timeouts.total, report)


def _hedge(path: Path, model: Model, report: Report) -> None:
    if model.hedge is None or model.hedge.after.startswith("p"):
        return
    after, bound = Duration.parse(model.hedge.after), model.timeouts.first_token
    _never_reached(path, after, "timeouts.first_token", bound, report)


def _never_reached(path: Path, one: Duration, named: str, bound: Duration, report: Report) -> None:
    """Tell of a time at `path` that `bound` always comes before."""
    if one > bound and report.written(path):
        what = f"is longer than `{named}`, which comes first"
        report.add(path, what, f"at most {bound.written()}, or a longer `{named}`")


def _outlier_detection(path: Path, one: OutlierDetection, report: Report) -> None:
    if one.base_ejection_time > one.max_ejection_time:
        first = (*path, "base_ejection_time")
        key = first if report.written(first) else (*path, "max_ejection_time")
        what = (
            f"`base_ejection_time`, {one.base_ejection_time.written()}, is longer than "
            f"`max_ejection_time`, {one.max_ejection_time.written()}"
        )
        report.add(key, what, "give both, the second at least as long")
    if 0 < one.success_rate_stdev_factor < _LEAST_STDEV_FACTOR:
        factor = one.success_rate_stdev_factor
        key = (*path, "success_rate_stdev_factor")
        what = f"is in thousandths of a standard deviation, found {factor:g}"
        hint = f"for {factor:g} deviations write {1000 * factor:g}; for none, 0"
        report.add(key, what, hint)
    if 0 < one.latency_factor < 1:
        what = f"expected at least 1, found {one.latency_factor:g}"
        hint = "it multiplies the others' median: less would eject who is faster; for none, 0"
        report.add((*path, "latency_factor"), what, hint)
