from __future__ import annotations

from types import SimpleNamespace

import pytest

from gateway.admin.door import Door
from gateway.errors import Forbidden
from gateway.routing.principal import Principal


def door(principal, host="127.0.0.1"):
    config = SimpleNamespace(keys={})
    state = SimpleNamespace(snapshot=SimpleNamespace(config=config))
    return Door(state, lambda keys, scope: principal, host)


def test_a_key_needs_to_be_an_admins():
    door(Principal("root", (), admin=True), host="0.0.0.0").require_admin({})
    with pytest.raises(Forbidden, match="'alice' has no `admin: true`"):
        door(Principal("alice", ())).require_admin({})


def test_without_keys_only_this_machine_may():
    door(None).require_admin({})
    with pytest.raises(Forbidden, match="set `keys`"):
        door(None, host="0.0.0.0").require_admin({})
