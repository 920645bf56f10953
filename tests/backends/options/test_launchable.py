from __future__ import annotations

import pytest

from backends.options import Launch, LlamaServerOptions, SlowStart, VllmOptions


@pytest.mark.parametrize("kind", [LlamaServerOptions, VllmOptions])
def test_what_is_started_here_has_no_urls_and_any_number_of_replicas(kind):
    launched = kind(replicas=2, launch=Launch(model="m"), slow_start=SlowStart())
    assert launched.urls == ()
    assert launched.engine().replicas == 2
    assert launched.engine() == kind(replicas=2, launch=Launch(model="m")).engine()
