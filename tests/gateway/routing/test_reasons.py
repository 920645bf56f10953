from __future__ import annotations

from gateway.routing.reasons import by_reason


def test_a_reason_that_several_have_is_told_once():
    said = [("e@0", "loading"), ("e@1", "HTTP 503"), ("e@2", "loading")]
    assert by_reason(said) == "e@0, e@2: loading; e@1: HTTP 503"


def test_whoever_says_the_same_twice_is_named_once():
    assert by_reason([("e@0", "loading"), ("e@0", "loading")]) == "e@0: loading"


def test_nobody_says_nothing():
    assert by_reason([]) == ""
