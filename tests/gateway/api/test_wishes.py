from __future__ import annotations

import pytest

from gateway.api import wishes
from gateway.errors import BadRequest


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("30", 30), ("2.5", 2.5), ("500ms", 0.5), ("1m30s", 90), (" 3 ", 3), ("0.05", 0.05)],
)
def test_seconds_or_a_duration(written, seconds):
    found = wishes.of_gateway([(b"x-gateway-timeout", written.encode())])
    assert wishes.timeout(found) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "written",
    [
        "",
        "0",
        "0.0",
        "-1",
        "soon",
        "1e3",
        "nan",
        "inf",
        "5 s",
        "99999999",
        "9" * 400,
        "1,5",
        "\xff",
    ],
)
def test_what_is_no_time_is_refused_and_named(written):
    found = wishes.of_gateway([(b"x-gateway-timeout", written.encode("latin-1"))])
    with pytest.raises(BadRequest) as refused:
        wishes.timeout(found)
    assert refused.value.param == "x-gateway-timeout"
    assert "500ms" in refused.value.message
    assert len(refused.value.message) < 250


def test_others_headers_say_nothing():
    assert (
        wishes.timeout(wishes.of_gateway([(b"timeout", b"3"), (b"x-other-timeout", b"3")])) is None
    )


def test_of_one_given_twice_the_last_counts():
    twice = [(b"x-gateway-timeout", b"1"), (b"x-gateway-timeout", b"2")]
    assert wishes.timeout(wishes.of_gateway(twice)) == 2
