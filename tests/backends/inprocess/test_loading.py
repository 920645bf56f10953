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


@pytest.mark.parametrize(
    ("tokens", "asked", "made_for", "level", "words"),
    [
        (4096, None, 4096, None, ""),
        (1000, 1000, 4096, None, ""),
        (8192, 8192, None, None, ""),
        (8192, None, None, None, ""),
        (4096, 9000, 4096, "WARNING", "`context: 9000` is more than the 4096 tokens"),
        (1000, 2000, 4096, "WARNING", "may have 1000 tokens in place of 2000"),
        (1000, None, 4096, "INFO", "may have 1000 tokens in place of 4096"),
    ],
)
def test_where_requests_may_have_less_than_was_asked_for(
    said, tokens, asked, made_for, level, words
):
    Loading("tale", lambda: 0.0).context(tokens, asked=asked, made_for=made_for)
    if level is None:
        assert said() == []
        return
    ((told, line),) = said()
    assert (told, words in line) == (level, True)


def test_both_reasons_are_told(said):
    Loading("tale", lambda: 0.0).context(1000, asked=9000, made_for=4096)
    first, second = said()
    assert "9000" in first[1]
    assert "1000 tokens in place of 4096" in second[1]
