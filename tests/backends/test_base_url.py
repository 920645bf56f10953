from __future__ import annotations

import pytest

from backends.base_url import parse_base


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("http://h:8000", "http://h:8000"),
        ("http://h:8000/", "http://h:8000"),
        ("http://h:8000/v1", "http://h:8000"),
        ("http://h:8000/v1/", "http://h:8000"),
        ("https://h/prefix/v1", "https://h/prefix"),
        ("https://h/prefix", "https://h/prefix"),
        ("https://h/v1beta", "https://h/v1beta"),
        ("http://[::1]:8000/v1", "http://[::1]:8000"),
    ],
)
def test_v1_and_slashes_at_the_end_do_not_matter(address, url):
    assert parse_base(address) == (url, None)


def test_a_unix_socket_is_a_path():
    assert parse_base("unix:/run/engine.sock") == ("http://localhost", "/run/engine.sock")


@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("http://", "base URL such as"),
        ("ftp://h", "base URL such as"),
        ("http://h?x=1", "query"),
        ("http://h/#x", "fragment"),
        ("http://h:port", "not a URL"),
    ],
)
def test_what_is_no_base_url_is_refused(address, why):
    with pytest.raises(ValueError, match=why):
        parse_base(address)


def test_a_password_in_a_url_is_refused_and_not_shown():
    with pytest.raises(ValueError, match="api_key") as caught:
        parse_base("http://user:hunter2@h")
    assert "hunter2" not in str(caught.value)
