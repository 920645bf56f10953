from __future__ import annotations

from gateway.wire.fields import Fields

TWICE = Fields([(b"a", b"1"), (b"b", b"2"), (b"a", b"3")])


def test_what_is_not_there_is_not_found():
    for fields in (Fields(), TWICE):
        assert fields.first(b"c") is None
        assert fields.every(b"c") == []


def test_of_a_name_given_twice_the_first_is_found_and_both_are_told():
    assert TWICE.first(b"a") == b"1"
    assert TWICE.every(b"a") == [b"1", b"3"]


def test_each_name_is_told_once():
    assert TWICE.names == {b"a", b"b"}


def test_fields_keep_their_order():
    assert [name for name, _ in TWICE.all] == [b"a", b"b", b"a"]
