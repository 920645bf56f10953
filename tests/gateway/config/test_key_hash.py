from __future__ import annotations

import hashlib

import pytest

from gateway.config.key_hash import KeyHash


@pytest.mark.parametrize(
    "value", ["", "short", "with space in it", "line\nbreak-long", "schlüssel"]
)
def test_a_useless_key_is_refused_without_being_quoted(value: str) -> None:
    with pytest.raises(ValueError, match=r"empty|fewer|holds") as refused:
        KeyHash.of(value)
    assert not value or value not in str(refused.value)


def test_only_the_key_itself_matches() -> None:
    key = KeyHash.of("sk-12345678")
    assert key == KeyHash.of("sk-12345678")
    assert key != KeyHash.of("sk-12345679")
    assert key.digest == hashlib.sha256(b"sk-12345678").digest()


def test_nothing_of_the_key_is_kept() -> None:
    key = KeyHash.of("sk-12345678")
    assert repr(key) == str(key) == f"{key}" == "<secret>"
    assert b"sk-" not in key.digest
    assert len(key.digest) == 32


def test_equal_keys_are_equal() -> None:
    assert KeyHash.of("sk-12345678") == KeyHash.of("sk-12345678")
    assert len({KeyHash.of("sk-12345678"), KeyHash.of("sk-12345678")}) == 1
    assert KeyHash.of("sk-12345678") != "sk-12345678"
