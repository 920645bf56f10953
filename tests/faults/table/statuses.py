"""Statuses with which an engine, or what stands before it, says no."""

from __future__ import annotations

from tests.faults.outcomes import (
    BEFORE,
    MISCONFIGURED,
    ONCE,
    Cells,
    Own,
    Saved,
    Told,
    before_content,
)
from tests.faults.table.answers import in_a_date
from tests.faults.table.row import both, either
from tests.support.upstream import BeforeBody, Close, Pause, Send, failing, response

STATUSES = {
    "429 without Retry-After": both(lambda _: [failing(429)], before_content(429)),
    "429 with Retry-After in seconds": either(
        lambda speech: [failing(429, "later", ("retry-after", "0.2")), speech.good],
        lambda speech: [failing(429, "later", ("retry-after", "0.2")), speech.answer],
        Cells(one=Own(asked=2, gap=0.2), two=Saved(), fallback=Own(asked=2, gap=0.2)),
    ),
    "429 with Retry-After as a date": either(
        lambda speech: [failing(429, "later", in_a_date(6)), speech.good],
        lambda speech: [failing(429, "later", in_a_date(6)), speech.answer],
        Cells(one=Own(asked=2, gap=0.9), two=Saved(), fallback=Own(asked=2, gap=0.9)),
    ),
    "429 with a long Retry-After": both(
        lambda _: [failing(429, "later", ("retry-after", "30"))],
        Cells(one=Told(status=429, asked=1, retry_after="30"), two=Saved(), fallback=Saved()),
    ),
    "500 once": either(
        lambda speech: [failing(500), speech.good],
        lambda speech: [failing(500), speech.answer],
        ONCE,
    ),
    "500 forever": both(lambda _: [failing(500)], BEFORE),
    "503 once": either(
        lambda speech: [failing(503), speech.good],
        lambda speech: [failing(503), speech.answer],
        ONCE,
    ),
    "503 forever": both(lambda _: [failing(503)], before_content(503)),
    "502 from a proxy": both(
        lambda _: [(Send(response(502, b"<html>Bad Gateway</html>")),)], BEFORE
    ),
    "413 before the request is read": both(
        lambda _: [(BeforeBody(), *failing(413, "too large"), Pause(0.05), Close())],
        Cells(
            one=Told(status=413, asked=1),
            two=Told(status=413, asked=1),
            fallback=Told(status=413, asked=1),
        ),
        padding=6 << 20,
    ),
    "408": both(lambda _: [(Send(response(408, b"")),)], before_content(504)),
    "401": both(lambda _: [failing(401, "Incorrect API key: sk-engine")], MISCONFIGURED),
    "redirect": both(
        lambda _: [(Send(response(307, b"", ("location", "http://127.0.0.1:1/"))),)],
        MISCONFIGURED,
    ),
}
