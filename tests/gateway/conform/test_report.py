from __future__ import annotations

from gateway.conform.agreement import Agreement
from gateway.conform.finding import Finding, Outcome
from gateway.conform.report import Report, table

FINDINGS = (
    Finding("a@1", "chat", Outcome.KEPT),
    Finding("a@1", "images", Outcome.REFUSED, "HTTP 400: no eyes"),
    Finding("a@1", "cancel", Outcome.KEPT, "free after 3 ms"),
    Finding("b@2", "chat", Outcome.BROKEN, "no content"),
)
AGREEMENT = Agreement("a@1", "b@2", prompts=6, identical=3, share=0.5, unit="tokens")


def test_the_table_has_a_row_for_each_check_and_a_column_for_each_replica():
    assert table(Report(findings=FINDINGS, agreements=(AGREEMENT,))).splitlines() == [
        "        a@1              b@2",
        "chat    kept             broken",
        "images  refused          -",
        "cancel  free after 3 ms  -",
        "",
        "a@1 and b@2: 3 of 6 greedy answers are identical, 50.0% of tokens agree",
        "",
        "refused: a@1: images: HTTP 400: no eyes",
        "broken: b@2: chat: no content",
    ]


def test_a_broken_promise_is_told_and_nothing_else_is_one():
    assert Report(findings=FINDINGS).broken == ["b@2: chat: no content"]
    assert not Report(findings=FINDINGS[:3], agreements=(AGREEMENT,)).broken


def test_too_little_agreement_is_one_where_somebody_says_how_much_it_must_be():
    (line,) = Report(findings=(), agreements=(AGREEMENT,), agree=0.9).broken
    assert line == "a@1 and b@2: 50.0% of tokens agree, not 90%"
