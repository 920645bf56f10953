from __future__ import annotations

import json

import pytest

from gateway.wire.resume.sampling import read_sampling


def read(**fields):
    return read_sampling(json.dumps(fields).encode())


@pytest.mark.parametrize("fields", [{"temperature": 0}, {"temperature": 0.0}, {"top_k": 1}])
def test_greedy(fields):
    assert read(**fields).greedy


@pytest.mark.parametrize(
    "fields",
    [{}, {"temperature": 0.1}, {"temperature": None}, {"temperature": False}, {"top_k": 0}],
)
def test_not_greedy(fields):
    assert not read(**fields).greedy


def test_a_seed_is_one_that_an_engine_takes():
    assert read(seed=7).seeded
    assert read(seed=0).seeded
    assert not read(seed=-1).seeded
    assert not read(seed=None).seeded
    assert not read(seed="7").seeded


@pytest.mark.parametrize("field", ["grammar", "guided_regex", "structured_outputs", "json_schema"])
def test_an_engines_own_fields_constrain_as_well(field):
    assert read(**{field: {"x": 1}}).constrained
    assert not read(**{field: None}).constrained


def test_an_echo_is_not_the_answer():
    assert not read(echo=True).only_goes_on
    assert not read(suffix="}").only_goes_on
    assert read(echo=False, suffix=None).only_goes_on


def test_what_is_no_object_says_nothing():
    assert read_sampling(b"[]") == read_sampling(b"{") == read()


@pytest.mark.parametrize(
    ("options", "counted"),
    [({"include_usage": True}, True), ({"include_usage": False}, False), ({}, False), (7, False)],
)
def test_usage_is_told_where_it_was_asked_for(options, counted):
    assert read(stream_options=options).counted is counted
