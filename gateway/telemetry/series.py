"""Counters and histograms that one event loop moves, in Prometheus' form when somebody scrapes.

prometheus_client's own take a lock for every number, since any thread might move them: five times
the cost, for a request that moves a dozen. It still writes the exposition.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Collection, Iterator
from itertools import accumulate
from typing import Generic, TypeVar

from prometheus_client.core import CounterMetricFamily, HistogramMetricFamily
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

Series = TypeVar("Series")


class Counter:
    """One series that only grows."""

    __slots__ = ("value",)

    def __init__(self) -> None:
        self.value = 0

    def inc(self, by: int = 1) -> None:
        """Count `by` more."""
        self.value += by


class Histogram:
    """One series of observations, by upper bounds that are part of their bucket."""

    __slots__ = ("_bounds", "counts", "total")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self._bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """Observations per bucket, the last one without a bound."""
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count `value`."""
        self.counts[bisect_left(self._bounds, value)] += 1
        self.total += value


class Family(Collector, Generic[Series]):
    """Series of one name, told apart by labels."""

    def __init__(self, name: str, text: str, labels: tuple[str, ...]) -> None:
        self._name, self._text, self._labels = name, text, labels
        self._series: dict[tuple[str, ...], Series] = {}

    def values(self, label: str) -> set[str]:
        """What `label` has for values; none where the family does not have it."""
        if label not in self._labels:
            return set()
        at = self._labels.index(label)
        return {values[at] for values in self._series}

    def forget(self, label: str, gone: Collection[str]) -> None:
        """Drop the series that have one of `gone` for `label`; who keeps one counts for nobody."""
        if label in self._labels:
            at = self._labels.index(label)
            kept = {key: one for key, one in self._series.items() if key[at] not in gone}
            self._series = kept


class CounterFamily(Family[Counter]):
    """Counters of one name."""

    def labels(self, *values: str) -> Counter:
        """The series with these label values; to be kept rather than asked for each time."""
        return self._series.setdefault(values, Counter())

    def collect(self) -> Iterator[CounterMetricFamily]:
        """What a scrape sees."""
        family = CounterMetricFamily(self._name, self._text, labels=self._labels)
        for values, counter in self._series.items():
            family.add_metric(values, counter.value)
        yield family


class HistogramFamily(Family[Histogram]):
    """Histograms of one name."""

    def __init__(
        self, name: str, text: str, labels: tuple[str, ...], bounds: tuple[float, ...]
    ) -> None:
        super().__init__(name, text, labels)
        self._bounds = bounds
        self._written = [*map(floatToGoString, bounds), "+Inf"]

    def labels(self, *values: str) -> Histogram:
        """The series with these label values; to be kept rather than asked for each time."""
        series = self._series.get(values)
        if series is None:
            series = self._series[values] = Histogram(self._bounds)
        return series

    def collect(self) -> Iterator[HistogramMetricFamily]:
        """What a scrape sees: cumulative buckets."""
        family = HistogramMetricFamily(self._name, self._text, labels=self._labels)
        for values, series in self._series.items():
            buckets = list(zip(self._written, accumulate(series.counts), strict=True))
            family.add_metric(values, buckets, series.total)
        yield family
