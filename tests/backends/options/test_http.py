from __future__ import annotations

import pytest

from backends.options import (
    LlamaServerOptions,
    OpenAIOptions,
    SlowStart,
    VllmOptions,
    WeightedReplica,
)

OVER_HTTP = (LlamaServerOptions, OpenAIOptions, VllmOptions)


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_replicas_are_urls_with_or_without_a_weight(kind):
    options = kind(replicas=("http://a", WeightedReplica(url="http://b", weight=2.5)))
    assert options.urls == ("http://a", "http://b")
    assert (options.weight("http://a"), options.weight("http://b")) == (1.0, 2.5)


@pytest.mark.parametrize("kind", OVER_HTTP)
def test_another_weight_or_start_is_no_other_engine(kind):
    plain = kind(replicas=("http://a", "http://b"))
    weighted = kind(
        replicas=("http://a", WeightedReplica(url="http://b", weight=2.0)), slow_start=SlowStart()
    )
    assert weighted.engine() == plain.engine()
    assert kind(replicas=("http://a", "http://c")).engine() != plain.engine()
