from __future__ import annotations

from backends.options import OpenAIOptions, VllmOptions
from gateway.config.structs import Config, Model, Variant
from gateway.control.overlay import Overlay, apply, users_of


def config(**adapters):
    return Config(
        backends={
            "gpu": VllmOptions(replicas=("http://h",), adapters=adapters),
            "far": OpenAIOptions(replicas=("http://f",)),
        },
        models={"m": Model(variants={"a": Variant(backend="gpu", adapter="v1")})},
    )


def applied(overlay, **adapters):
    return apply(config(**adapters), overlay).backends["gpu"].adapters


def test_adapters_are_added_replaced_and_taken_away():
    overlay = Overlay().changed("gpu", "v2", "/2").changed("gpu", "v1", "/new")
    assert applied(overlay, v1="/1", v3="/3") == {"v1": "/new", "v2": "/2", "v3": "/3"}
    assert applied(overlay.changed("gpu", "v3", None), v1="/1", v3="/3") == {
        "v1": "/new",
        "v2": "/2",
    }


def test_the_last_change_counts():
    overlay = Overlay().changed("gpu", "v2", "/2").changed("gpu", "v2", None)
    assert applied(overlay, v1="/1") == {"v1": "/1"}


def test_what_a_model_of_the_file_needs_is_not_taken_away():
    assert applied(Overlay().changed("gpu", "v1", None), v1="/1") == {"v1": "/1"}
    assert users_of(config(), "gpu", "v1") == ["m"]
    assert users_of(config(), "gpu", "v2") == []


def test_backends_that_are_gone_or_have_no_adapters_are_passed_over():
    overlay = Overlay().changed("gone", "v", "/v").changed("far", "v", "/v")
    assert apply(config(), overlay) == config()


def test_nothing_changed_is_the_file():
    assert apply(config(v1="/1"), Overlay()) == config(v1="/1")
