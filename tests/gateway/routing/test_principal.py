from __future__ import annotations

from types import SimpleNamespace

import pytest

from gateway.errors import Forbidden
from gateway.routing.principal import Principal


@pytest.mark.parametrize(
    ("models", "allowed", "denied"),
    [
        ((), ["a", "qwen-8b"], []),
        (("a",), ["a"], ["b", "aa"]),
        (("qwen-*", "b"), ["qwen-8b", "b"], ["qwen", "a"]),
    ],
)
def test_a_key_may_use_what_it_names_and_all_where_it_names_none(models, allowed, denied):
    principal = Principal("alice", models)
    for name in allowed:
        assert principal.may_use(name)
        principal.require(SimpleNamespace(name=name))
    for name in denied:
        assert not principal.may_use(name)
        with pytest.raises(Forbidden, match=f"'alice' may not use the model '{name}'"):
            principal.require(SimpleNamespace(name=name))
