from __future__ import annotations

from collections import Counter
from itertools import pairwise

import msgspec
import pytest

from backends.options import OpenAIOptions
from gateway.config import structs
from gateway.config.names import Glob
from gateway.routing.split import choose_variant, sticky_key
from gateway.routing.table import Route, Rule, Sticky, Table, Variant
from gateway.wire.fields import Fields

USERS = [f"user-{n}".encode() for n in range(4000)]


def route(*weights: tuple[str, float], name: str = "m", rules: tuple[Rule, ...] = ()) -> Route:
    config = structs.Config(
        backends={"b": OpenAIOptions(replicas=("http://h",))},
        models={
            name: structs.Model(
                variants={arm: structs.Variant(backend="b", weight=it) for arm, it in weights}
            )
        },
    )
    built = Table.build(config, {"b": ()}).resolve(name)
    return msgspec.structs.replace(built, rules=rules)


def chosen(of: Route, users: list[bytes] = USERS) -> list[str]:
    return [choose_variant(of, key_name=None, headers=Fields(), sticky_key=it).name for it in users]


# Weights


@pytest.mark.parametrize(
    "weights", [(95, 5), (1, 1), (70, 20, 10), (0.5, 0.25, 0.25), (1e6, 1e-3), (1, 1, 1, 1, 1)]
)
def test_shares_are_those_of_the_weights(weights: tuple[float, ...]) -> None:
    counts = Counter(chosen(route(*((f"v{n}", it) for n, it in enumerate(weights)))))
    for n, weight in enumerate(weights):
        share = weight / sum(weights)
        deviation = (share * (1 - share) / len(USERS)) ** 0.5
        assert abs(counts[f"v{n}"] / len(USERS) - share) <= 4.5 * deviation


def test_the_same_key_goes_to_the_same_variant() -> None:
    arms = route(("a", 50), ("b", 50))
    assert chosen(arms) == chosen(arms) == chosen(route(("a", 50), ("b", 50)))


def test_the_hash_stays_what_it_is() -> None:
    """A change here would move everybody's users on an upgrade."""
    assert "".join(chosen(route(("a", 50), ("b", 50)), USERS[:24])) == "bbaaabbbbaabaababbababba"


@pytest.mark.parametrize(
    ("before", "after", "to"),
    [
        ({"stable": 95, "canary": 5}, {"stable": 95, "canary": 10}, "canary"),
        ({"stable": 95, "canary": 5}, {"stable": 90, "canary": 10}, "canary"),
        ({"a": 10, "b": 45, "c": 45}, {"a": 30, "b": 45, "c": 45}, "a"),
        ({"a": 45, "b": 45, "c": 10}, {"a": 45, "b": 45, "c": 30}, "c"),
        ({"a": 50, "b": 50, "c": 0}, {"a": 50, "b": 50, "c": 5}, "c"),
        ({"a": 50, "b": 50}, {"a": 50, "b": 50, "new": 10}, "new"),
        ({"b": 50, "a": 50}, {"new": 10, "a": 50, "b": 50}, "new"),
    ],
)
def test_raising_a_weight_moves_only_that_share_and_only_there(
    before: dict[str, float], after: dict[str, float], to: str
) -> None:
    old, new = chosen(route(*before.items())), chosen(route(*after.items()))
    moved = [(a, b) for a, b in zip(old, new, strict=True) if a != b]
    assert {b for _, b in moved} == {to}
    share = after[to] / sum(after.values()) - before.get(to, 0) / sum(before.values())
    assert abs(len(moved) / len(USERS) - share) < 0.02


def test_a_ramp_takes_users_over_one_by_one_and_back_the_same_way() -> None:
    steps = [chosen(route(("stable", 100 - it), ("canary", it))) for it in range(0, 101, 10)]
    for old, new in pairwise(steps):
        assert not [1 for a, b in zip(old, new, strict=True) if a == "canary" and b == "stable"]
    assert set(steps[0]) == {"stable"}
    assert set(steps[-1]) == {"canary"}


def test_a_weight_of_zero_gets_nobody() -> None:
    assert set(chosen(route(("a", 0), ("b", 1), ("c", 0)))) == {"b"}


def test_routes_split_the_same_users_differently() -> None:
    one = chosen(route(("a", 50), ("b", 50), name="one"))
    two = chosen(route(("a", 50), ("b", 50), name="two"))
    same = sum(a == b for a, b in zip(one, two, strict=True)) / len(USERS)
    assert 0.45 < same < 0.55


def test_a_single_variant_needs_no_key() -> None:
    assert chosen(route(("only", 1)), [b""]) == ["only"]


def test_a_key_of_any_length_will_do() -> None:
    assert len(chosen(route(("a", 1), ("b", 1)), [b"", b"\xff" * 100_000])) == 2


# Rules


def ruled(*rules: tuple[dict[str, str], set[str], int]) -> Route:
    arms = route(("stable", 1), ("canary", 0), ("beta", 0))
    return route(
        ("stable", 1),
        ("canary", 0),
        ("beta", 0),
        rules=tuple(
            Rule(
                headers=tuple((name.encode(), Glob(value)) for name, value in headers.items()),
                keys=frozenset(keys),
                variant=arms.variants[at],
            )
            for headers, keys, at in rules
        ),
    )


def pick(of: Route, key: str | None = None, *headers: tuple[bytes, bytes]) -> Variant:
    return choose_variant(of, key_name=key, headers=Fields(headers), sticky_key=b"x")


def test_a_rule_comes_before_the_weights() -> None:
    of = ruled(({"x-canary": "1"}, set(), 1))
    assert pick(of).name == "stable"
    assert pick(of, None, (b"x-canary", b"1")).name == "canary"
    assert pick(of, None, (b"x-canary", b"10")).name == "stable"
    assert pick(of, None, (b"x-other", b"1")).name == "stable"


def test_all_parts_of_a_condition_must_hold() -> None:
    of = ruled(({"a": "1", "b": "*"}, {"bob", "eve"}, 1))
    both = ((b"a", b"1"), (b"b", b""))
    assert pick(of, "bob", *both).name == "canary"
    assert pick(of, "eve", *both).name == "canary"
    assert pick(of, "mallory", *both).name == "stable"
    assert pick(of, None, *both).name == "stable"
    assert pick(of, "bob", (b"a", b"1")).name == "stable"


def test_the_first_rule_that_fits_decides() -> None:
    of = ruled(({"a": "1*"}, set(), 1), ({"a": "*"}, set(), 2))
    assert pick(of, None, (b"a", b"12")).name == "canary"
    assert pick(of, None, (b"a", b"2")).name == "beta"


def test_one_of_repeated_headers_is_enough_and_any_bytes_are_fine() -> None:
    of = ruled(({"a": "1"}, set(), 1))
    assert pick(of, None, (b"a", b"\xff\xfe"), (b"a", b"1")).name == "canary"


# Sticky keys

HEADERS = Fields([(b"x-session", b"s1"), (b"x-empty", b"")])


def key(kind: str, **given: object) -> bytes:
    known = {"user": None, "key_name": None, "headers": HEADERS, "conversation": None}
    return sticky_key(Sticky.parse(kind), random=b"rnd", **{**known, **given})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "given", "expected"),
    [
        ("user", {"user": "u", "conversation": b"c"}, b"user\0u"),
        ("user", {"user": "", "conversation": b"c"}, b"conversation\0c"),
        ("user", {"conversation": b"c"}, b"conversation\0c"),
        ("user", {}, b"rnd"),
        ("user", {"user": "\udc80"}, b"user\0\xed\xb2\x80"),
        ("key", {"key_name": "alice", "user": "u"}, b"key\0alice"),
        ("key", {"conversation": b"c"}, b"conversation\0c"),
        ("header:X-Session", {"conversation": b"c"}, b"header\0s1"),
        ("header:x-empty", {"conversation": b"c"}, b"conversation\0c"),
        ("header:x-none", {}, b"rnd"),
        ("conversation", {"user": "u", "conversation": b"c"}, b"conversation\0c"),
        ("conversation", {"conversation": b""}, b"rnd"),
        ("none", {"user": "u", "conversation": b"c"}, b"rnd"),
    ],
)
def test_the_sticky_key_is_what_the_route_says_or_the_conversation(
    kind: str, given: dict[str, object], expected: bytes
) -> None:
    assert key(kind, **given) == expected
