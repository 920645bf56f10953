from __future__ import annotations

import logging

import pytest

from backends.inprocess.loading import Loading

GIB = 1 << 30


@pytest.fixture
def said(caplog):
    caplog.set_level(logging.DEBUG, "backends.inprocess.loading")
    return lambda: [(record.levelname, record.getMessage()) for record in caplog.records]


def test_it_names_who_what_and_how_much(said):
    Loading("tale", lambda: 0.0).begin("/models/tale", 5 * GIB, 9 * GIB)
    assert said() == [("INFO", "tale: loading /models/tale, 5.0 GiB (9.0 GiB with its caches)")]


def test_what_is_fetched_is_told(said):
    loading = Loading("tale", lambda: 0.0)
    loading.fetch("owner/name", 5 * GIB)
    loading.fetch("owner/other", 0)
    assert said() == [
        ("INFO", "tale: fetching owner/name from the hub, 5.0 GiB"),
        ("INFO", "tale: fetching owner/other from the hub"),
    ]


def test_how_far_it_is_is_shown_often_and_told_now_and_then(said):
    now = 0.0
    loading = Loading("tale", lambda: now)
    for quarter in range(240):
        now = quarter / 40
        loading.reached(quarter * GIB // 60, 4 * GIB)
    told = [line for level, line in said() if level == "INFO"]
    assert told == ["tale: loading, 3.3 GiB of 4.0 GiB (83 %) after 5 s"]
    shown = [line for level, line in said() if level == "DEBUG"]
    assert 20 < len(shown) <= 30
    assert shown[0] == "tale: loading, 136.5 MiB of 4.0 GiB (3 %) after 0 s"


def test_a_model_of_no_bytes_is_all_there(said):
    now = 0.0
    loading = Loading("none", lambda: now)
    now = 6.0
    loading.reached(0, 0)
    assert said() == [("INFO", "none: loading, 0 B of 0 B (100 %) after 6 s")]
