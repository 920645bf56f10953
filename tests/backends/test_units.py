from __future__ import annotations

import pytest

from backends.units import Duration, Size, Timeout


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("250ms", 0.25), ("2s", 2), ("1.5m", 90), ("1m30s", 90), ("1h", 3600), ("7d", 604800)],
)
def test_a_duration_is_read_in_seconds(text: str, seconds: float) -> None:
    assert Duration.parse(text) == pytest.approx(seconds)
    assert Timeout.parse(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "soon", "-1s", "1 s", "s", "1S", "1e3s", "inf", "31d", "9" * 500 + "s", "2s\n"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Duration.parse(text)


def test_a_number_without_unit_is_refused_with_the_way_to_write_it() -> None:
    with pytest.raises(ValueError, match="a duration with its unit, such as 250ms"):
        Duration.parse("30")
    with pytest.raises(ValueError, match="a size with its unit, such as 64KiB"):
        Size.parse("64")


def test_zero_is_a_duration_but_no_timeout() -> None:
    assert Duration.parse("0") == 0
    assert Duration.parse("0s") == 0
    for text in ("0s", "0ms", "0.0h"):
        with pytest.raises(ValueError, match="above zero"):
            Timeout.parse(text)


@pytest.mark.parametrize(
    ("text", "size"),
    [("0", 0), ("512B", 512), ("64KiB", 65536), ("32MB", 32_000_000), ("1.5 GiB", 3 << 29)],
)
def test_a_size_is_read_in_bytes(text: str, size: int) -> None:
    assert Size.parse(text) == size


@pytest.mark.parametrize("text", ["", "big", "-1B", "64K", "1TB", "2000GiB", "9" * 500 + "B"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        Size.parse(text)


@pytest.mark.parametrize("text", ["25ms", "2s", "0s", "60s", "90s", "10m", "1440m"])
def test_a_duration_is_written_as_it_is_read(text: str) -> None:
    assert Duration.parse(text).written() == text


@pytest.mark.parametrize("text", ["0B", "100B", "32KiB", "5MiB", "1GiB"])
def test_a_size_is_written_as_it_is_read(text: str) -> None:
    assert Size.parse(text).written() == text
