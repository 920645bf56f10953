from __future__ import annotations

import pytest

from gateway.wire.reply_headers import redirects_to, retry_after


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        (b"5", 5.0),
        (b" 0.5 ", 0.5),
        (b"-5", 0.0),
        (b"inf", 3600.0),
        (b"99999999", 3600.0),
        (b"Thu, 01 Jan 1970 00:01:40 GMT", 40.0),
        (b"Thu, 01 Jan 1970 00:00:00 GMT", 0.0),
        (b"nan", None),
        (b"soon", None),
        (b"", None),
        (b"\xff", None),
    ],
)
def test_retry_after(value, seconds):
    assert retry_after([(b"x", b"1"), (b"retry-after", value)], 60.0) == seconds


def test_no_retry_after():
    assert retry_after([], 0.0) is None


@pytest.mark.parametrize(
    ("location", "told"),
    [
        (b"https://me:secret@h.example:8443/v1?key=secret#secret", " to https://h.example:8443"),
        (b"https://h.example/secret", " to https://h.example"),
        (b"http://[::1]:8000/v1", " to http://[::1]:8000"),
        (b"//h.example/secret", " to h.example"),
        (b"/secret/", " to another path there"),
        (b"http://h.example:secret/", ""),
        (b"http://[secret/", ""),
        (b"http://h\x00secret/", ""),
        (b"http://" + b"secret" * 100, ""),
        (b"", ""),
    ],
)
def test_of_a_redirect_the_host_is_told_and_no_secret(location, told):
    assert redirects_to([(b"Location", location)]) == told


def test_one_that_leads_nowhere():
    assert redirects_to([]) == ""
