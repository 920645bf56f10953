from __future__ import annotations

import pytest

from gateway.server import ListenError, listen


def test_a_port_in_use_is_told_with_what_to_do():
    with listen("127.0.0.1", 0) as bound:
        port = bound.getsockname()[1]
        with pytest.raises(ListenError, match=rf"127\.0\.0\.1:{port}.*server\.port"):
            listen("127.0.0.1", port)


def test_a_host_that_does_not_exist_is_told():
    with pytest.raises(ListenError, match=r"no\.such\.host\.invalid"):
        listen("no.such.host.invalid", 0)


def test_ipv6_works():
    try:
        bound = listen("::1", 0)
    except ListenError:
        pytest.skip("this machine has no IPv6")
    bound.close()
