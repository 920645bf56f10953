from __future__ import annotations

import pickle

import msgspec
import pytest

from backends.options import OpenAIOptions
from backends.secret import Secret

KEY = "sk-very-private"


@pytest.mark.parametrize("show", [repr, str, "{}".format, "{:>20}".format, lambda s: f"{s!r}"])
def test_no_way_of_printing_shows_it(show):
    assert KEY not in show(Secret(KEY))
    assert "<secret>" in show(Secret(KEY))


def test_options_hold_it_without_showing_it():
    options = msgspec.convert(
        {"use": "openai", "replicas": ["http://h"], "api_key": KEY},
        OpenAIOptions,
        dec_hook=lambda kind, value: kind(value),
    )
    assert options.api_key is not None
    assert options.api_key.reveal() == KEY
    assert KEY not in repr(options)


def test_equal_secrets_are_equal_and_hash_alike():
    assert Secret(KEY) == Secret(KEY)
    assert hash(Secret(KEY)) == hash(Secret(KEY))
    assert Secret(KEY) != Secret(KEY + "x")
    assert Secret(KEY) != KEY


def test_where_it_comes_from_may_be_told():
    one = Secret(KEY, "${ENGINE_KEY}")
    assert one.origin == "${ENGINE_KEY}"
    assert one == Secret(KEY)
    assert pickle.loads(pickle.dumps(one)).origin == one.origin


def test_a_secret_cannot_be_serialised_by_accident():
    with pytest.raises(TypeError):
        msgspec.json.encode({"key": Secret(KEY)})


def test_a_secret_survives_a_copy_between_processes():
    assert pickle.loads(pickle.dumps(Secret(KEY))) == Secret(KEY)
