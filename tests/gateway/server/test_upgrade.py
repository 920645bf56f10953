from __future__ import annotations

import pytest

from gateway.server.upgrade import head_without_upgrade

HOST = (b"host", b"g")


def lines(*headers):
    head = head_without_upgrade(b"POST", b"/a?b", "1.1", headers)
    assert head.endswith(b"\r\n\r\n")
    return head[:-4].split(b"\r\n")


def test_the_offer_goes_and_all_else_stays_in_its_order():
    offer = [(b"connection", b"Upgrade, HTTP2-Settings"), (b"upgrade", b"h2c")]
    offer.append((b"http2-settings", b"AAMA"))
    assert lines(HOST, *offer, (b"x", b"1"), (b"x", b"2")) == [
        b"POST /a?b HTTP/1.1",
        b"host: g",
        b"connection: ",
        b"x: 1",
        b"x: 2",
    ]


@pytest.mark.parametrize("value", [b"close, Upgrade", b"upgrade,close", b" UPGRADE , close"])
def test_what_else_is_said_of_the_connection_stays(value):
    assert lines((b"connection", value))[1] == b"connection: close"


def test_the_version_stays():
    assert head_without_upgrade(b"GET", b"/", "1.0", []) == b"GET / HTTP/1.0\r\n\r\n"
