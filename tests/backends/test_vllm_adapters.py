from __future__ import annotations

import json

import pytest

from backends.base import Adapter
from backends.vllm_adapters import name_for, names_of, read_models

SQL = Adapter("sql", "/models/sql-1")


def listed(*cards):
    cards = [{"id": name, "root": root, "parent": parent} for name, root, parent in cards]
    return read_models(json.dumps({"object": "list", "data": cards}).encode())


def test_an_adapter_is_known_by_its_path_whatever_it_is_called():
    said = listed(("tale", "/models/sql-1", None), ("mine", "/models//sql-1/", "tale"))
    assert names_of([SQL, Adapter("x", "/models/x")], said) == {SQL: "mine"}


def test_the_model_itself_is_no_adapter():
    assert names_of([SQL], listed(("tale", "/models/sql-1", None))) == {}


def test_another_path_under_the_same_name_is_another_adapter():
    said = listed(("tale", "/t", None), ("sql", "/models/sql-0", "tale"))
    assert names_of([SQL], said) == {}
    name = name_for(SQL, said.names)
    assert name.startswith("sql-")
    assert name == name_for(SQL, said.names)
    assert name != name_for(Adapter("sql", "/models/sql-2"), said.names)


def test_a_name_that_is_free_is_taken():
    assert name_for(SQL, {"tale"}) == "sql"


@pytest.mark.parametrize("body", [b"", b"[]", b'{"data":[{}]}', b'{"data":"x"}', b"\xff"])
def test_what_is_no_list_of_models_is_said(body):
    with pytest.raises(ValueError, match="list of models"):
        read_models(body)
