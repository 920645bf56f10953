from __future__ import annotations

import pytest

from backends.base import Endpoint
from gateway.api import wishes
from gateway.errors import BadRequest
from gateway.routing.admission import Priority
from gateway.routing.principal import Principal
from gateway.wire.fields import Fields
from gateway.wire.peek import peek


@pytest.mark.parametrize(
    ("written", "seconds"),
    [
        ("30", 30),
        ("2.5", 2.5),
        ("500ms", 0.5),
        ("1m30s", 90),
        (" 3 ", 3),
        ("0.05", 0.05),
        ("2592000", 2592000),
    ],
)
def test_seconds_or_a_duration(written, seconds):
    found = Fields([(b"x-gateway-timeout", written.encode())])
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
        "2592001",
        "31d",
        "99999999",
        "9" * 400,
        "1,5",
        "\xff",
    ],
)
def test_what_is_no_time_is_refused_and_named(written):
    found = Fields([(b"x-gateway-timeout", written.encode("latin-1"))])
    with pytest.raises(BadRequest) as refused:
        wishes.timeout(found)
    assert refused.value.param == "x-gateway-timeout"
    assert "above zero and at most 30d, such as 30, 2.5 or 500ms" in refused.value.message
    assert len(refused.value.message) < 250


def test_others_headers_say_nothing():
    assert wishes.timeout(Fields([(b"timeout", b"3"), (b"x-other-timeout", b"3")])) is None


WISHES = {
    "x-gateway-timeout": wishes.timeout,
    "x-gateway-priority": lambda found: wishes.priority(found, None),
}


@pytest.mark.parametrize("name", WISHES)
@pytest.mark.parametrize("values", [("1", "2"), ("high", "high"), ("", "low")])
def test_one_given_twice_is_refused(name, values):
    twice = Fields([(name.encode(), value.encode()) for value in values])
    with pytest.raises(BadRequest, match=f"{name}: expected once, found 2 times") as refused:
        WISHES[name](twice)
    assert (refused.value.param, refused.value.code) == (name, "invalid_header")


@pytest.mark.parametrize("name", WISHES)
@pytest.mark.parametrize("value", [b"", b" "])
def test_an_empty_one_says_nothing_that_could_be_kept(name, value):
    with pytest.raises(BadRequest, match=f"{name}: expected .*; found nothing"):
        WISHES[name](Fields([(name.encode(), value)]))


ANYBODY = Principal("bob", ())
URGENT = Principal("alice", (), max_priority=Priority.HIGH)
PATIENT = Principal("batch", (), max_priority=Priority.LOW)


@pytest.mark.parametrize(
    ("written", "principal", "priority"),
    [
        (None, None, Priority.NORMAL),
        (None, URGENT, Priority.NORMAL),
        (None, PATIENT, Priority.LOW),
        ("high", None, Priority.HIGH),
        ("HIGH", URGENT, Priority.HIGH),
        ("high", ANYBODY, Priority.NORMAL),
        ("high", PATIENT, Priority.LOW),
        ("low", URGENT, Priority.LOW),
    ],
)
def test_the_key_bounds_the_priority(written, principal, priority):
    headers = [] if written is None else [(b"x-gateway-priority", written.encode())]
    assert wishes.priority(Fields(headers), principal) is priority


@pytest.mark.parametrize("written", ["", "urgent", "0", "-1", "\xff"])
def test_a_class_that_there_is_not_is_refused(written):
    found = Fields([(b"x-gateway-priority", written.encode("latin-1"))])
    with pytest.raises(BadRequest, match="high, normal or low"):
        wishes.priority(found, None)


def ranked(priority: str, principal: Principal | None, endpoint: Endpoint = Endpoint.CHAT) -> str:
    """What an engine is sent of `priority`, as JSON."""
    body = (
        b'{"model":"m","messages":[1],"prompt":"p","input":"i","priority":%s}' % priority.encode()
    )
    sent = wishes.within_rank(body, peek(endpoint, body), principal)
    return sent.rpartition(b":")[2].rstrip(b"}").decode()


@pytest.mark.parametrize(
    ("said", "principal", "sent"),
    [
        ("-100", None, "-100"),
        ("-100", URGENT, "-1"),
        ("-1", URGENT, "-1"),
        ("-100", ANYBODY, "0"),
        ("-0.5", ANYBODY, "0"),
        ('"-100"', ANYBODY, "0"),
        ('"\\u002d100"', ANYBODY, "0"),
        ('"nan"', ANYBODY, "0"),
        ("-1e300", ANYBODY, "0"),
        ("-1" + "0" * 400, ANYBODY, "0"),
        ("0", ANYBODY, "0"),
        ("7", ANYBODY, "7"),
        ("0", PATIENT, "1"),
        ("false", PATIENT, "1"),
        ("null", PATIENT, "null"),
        ('"asap"', PATIENT, '"asap"'),
        ("[-5]", PATIENT, "[-5]"),
    ],
)
def test_the_key_bounds_what_engines_are_told_too(said, principal, sent):
    assert ranked(said, principal) == sent


@pytest.mark.parametrize("endpoint", list(Endpoint))
def test_at_every_endpoint(endpoint):
    assert ranked("-5", ANYBODY, endpoint) == "0"


def test_of_one_given_twice_the_last_is_bounded_and_the_only_one():
    body = b'{"model":"m","messages":[1],"priority":-9,"priority":-7}'
    sent = wishes.within_rank(body, peek(Endpoint.CHAT, body), ANYBODY)
    assert sent == b'{"model":"m","messages":[1],"priority":0}'


@pytest.mark.parametrize("name", [b"\\ud800", b"a\\udc00"])
def test_a_field_that_hides_behind_half_a_character_is_refused(name):
    body = b'{"%s":1,"model":"m","messages":[1],"priority":-7}' % name
    with pytest.raises(BadRequest, match="not valid JSON"):
        wishes.within_rank(body, peek(Endpoint.CHAT, body), ANYBODY)
