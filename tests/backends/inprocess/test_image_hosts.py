import pytest

from backends.base import RequestRefused
from backends.inprocess.image_hosts import ImageHosts, Place, may_reach

WHERE = "messages[0].content[0].image_url"


def refused(url, *patterns):
    with pytest.raises(RequestRefused) as caught:
        ImageHosts(patterns).place(url, WHERE)
    error = caught.value
    assert (error.status, error.param, error.code) == (400, WHERE, "invalid_image_url")
    return error.message


def place(url, *patterns):
    return ImageHosts(patterns).place(url, WHERE)


def test_without_hosts_nothing_is_fetched_and_the_key_is_told():
    message = refused("https://example.com/a.png")
    assert "images.fetch_from" in message
    assert "data:" in message


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "ftp://example.com/a",
        "gopher://example.com/",
        "/etc/passwd",
        "a.png",
        "",
        "javascript:alert(1)",
        "http:///a.png",
        "http://[::1",
        "http://example.com:99999/",
        "http://example.com:x/",
        "http://ex\u00e4mple.com/",
        "http://user:secret@example.com/",
        "https://example.com/" + "a" * 5000,
    ],
)
def test_what_is_no_url_of_a_host_is_refused(url):
    assert "secret" not in refused(url, "*")


def test_a_url_becomes_a_place():
    assert place("https://Example.COM/a b?x=1&y=é#part", "example.com") == Place(
        "example.com", 443, True, "/a%20b?x=1&y=%C3%A9", True
    )
    assert place("http://example.com.", "example.com").target == "/"
    assert place("http://[::1]:81/a%2Fb", "[::1]:81") == Place("::1", 81, False, "/a%2Fb", True)


def test_the_host_header_has_a_port_where_it_is_unusual():
    assert place("https://a.b/", "a.b").authority == "a.b"
    assert place("http://a.b:8080/", "a.b:8080").authority == "a.b:8080"
    assert place("http://[::1]:81/", "[::1]:81").authority == "[::1]:81"


@pytest.mark.parametrize(
    ("url", "pattern"),
    [
        ("https://evil.com/", "example.com"),
        ("https://example.com.evil.com/", "example.com"),
        ("https://notexample.com/", "*.example.com"),
        ("https://example.com/", "*.example.com"),
        ("https://example.com:8443/", "example.com"),
        ("http://example.com:443/", "example.com"),
        ("https://example.com/", "example.com:8443"),
        ("http://example.com:22/", "*"),
        ("http://evil.com#@example.com/", "example.com"),
        ("http://evil.com\\@example.com/", "example.com"),
    ],
)
def test_other_hosts_and_ports_are_refused(url, pattern):
    refused(url, pattern)


def test_a_wildcard_stands_for_all_below_a_domain_and_trusts_none():
    found = place("https://a.b.example.com/x", "*.example.com")
    assert (found.host, found.trusted) == ("a.b.example.com", False)
    assert not place("https://anything.org/", "*").trusted
    assert place("https://anything.org/", "*", "anything.org").trusted
    assert place("http://a.example.com:81/", "*.example.com:81").port == 81


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1",
        "10.1.2.3",
        "192.168.0.1",
        "172.16.0.1",
        "169.254.169.254",
        "100.64.0.1",
        "0.0.0.0",
        "224.0.0.1",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::1%eth0",
        "fd00::1",
        "::ffff:127.0.0.1",
        "::ffff:169.254.169.254",
        "64:ff9b::7f00:1",
        "64:ff9b:1::7f00:1",
        "::127.0.0.1",
        "fec0::1",
        "2002:7f00:1::",
        "ff02::1",
    ],
)
def test_private_addresses_are_for_trusted_hosts_only(address):
    assert not may_reach(address, trusted=False)
    assert may_reach(address, trusted=True)


def test_public_addresses_are_for_all():
    for address in ("93.184.215.14", "2606:2800:21f:cb07:6820:80da:af6b:8b2c", "::ffff:8.8.8.8"):
        assert may_reach(address, trusted=False)
