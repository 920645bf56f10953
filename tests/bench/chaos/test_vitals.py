"""What counts as growth."""

from __future__ import annotations

import msgspec

from bench.chaos.vitals import Vitals

BEFORE = Vitals(rss_mb=100, files=20, threads=10, processes=2, in_flight=0)


def grown(**fields):
    return msgspec.structs.replace(BEFORE, **fields).grown(BEFORE, mb=30)


def test_as_before_or_less_is_none():
    assert grown() == []
    assert grown(rss_mb=90, files=10, threads=5, processes=1) == []


def test_a_little_more_is_none_where_it_comes_and_goes():
    assert grown(rss_mb=129, files=23, threads=13) == []


def test_more_is_told_by_name():
    assert grown(rss_mb=140) == ["rss_mb: 100 → 140"]
    assert grown(files=30) == ["files: 20 → 30"]
    assert grown(in_flight=1) == ["in_flight: 0 → 1"]
    assert grown(processes=3) == ["processes: 2 → 3"]
