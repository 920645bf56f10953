from __future__ import annotations

import msgspec
import pytest

from backends.units import Duration, Size
from gateway.cli.settings import settings, written


class Inner(msgspec.Struct):
    after: Duration = Duration(2)
    many: int = 3


class Outer(msgspec.Struct):
    name: str = "n"
    inner: Inner = msgspec.field(default_factory=Inner)
    extra: Inner | None = None
    needed: bool = True
    items: tuple[str, ...] = ()


def test_all_at_their_defaults() -> None:
    own, usual = settings(Outer())
    assert own == ()
    assert usual == (
        "name: n",
        "inner: {after: 2s, many: 3}",
        "extra: none",
        "needed: true",
        "items: []",
    )


def test_parts_are_taken_apart() -> None:
    one = Outer(inner=Inner(many=4), extra=Inner(), items=("a", "b"))
    own, usual = settings(one, {"name"})
    assert own == ("inner: {many: 4}", "extra: {after: 2s, many: 3}", "items: [a, b]")
    assert usual == ("inner: {after: 2s}", "needed: true")


def test_what_is_usual_for_one_kind_may_not_be_for_another() -> None:
    class Other(msgspec.Struct):
        inner: Inner = msgspec.field(default_factory=lambda: Inner(many=9))

    assert settings(Other()).own == ()
    assert settings(Other(Inner())).own == ("inner: {many: 3}",)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "none"),
        (False, "false"),
        (Duration(0.5), "500ms"),
        (Duration(600), "10m"),
        (Size(1 << 20), "1MiB"),
        (5.0, "5"),
        (0.1, "0.1"),
        (7, "7"),
        ("p95", "p95"),
    ],
)
def test_values_are_written_as_in_the_file(value: object, text: str) -> None:
    assert written(value) == text
