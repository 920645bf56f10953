from __future__ import annotations

import pytest

from backends.options import Launch, LlamaServerOptions, SlowStart, VllmOptions


@pytest.mark.parametrize("kind", [LlamaServerOptions, VllmOptions])
def test_what_is_started_here_has_no_urls_and_any_number_of_replicas(kind):
    launched = kind(replicas=2, launch=Launch(model="m"), slow_start=SlowStart())
    assert launched.urls == ()
    assert launched.engine().replicas == 2
    assert launched.engine() == kind(replicas=2, launch=Launch(model="m")).engine()


def test_what_is_started_here_is_known_to_be_able_to_what_its_kind_is():
    launched = LlamaServerOptions(launch=Launch(model="m")).connect("tale")
    running = LlamaServerOptions(replicas=("http://127.0.0.1:1",)).connect("tale")
    for trait in (
        "provider", "counts_chats", "takes_priority", "shows_progress", "probes_beside"
    ):  # fmt: skip
        assert getattr(launched, trait) == getattr(running, trait), trait
