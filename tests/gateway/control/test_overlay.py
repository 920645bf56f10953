from __future__ import annotations

import msgspec

from backends.options import Discover, OpenAIOptions, VllmOptions
from backends.units import Timeout
from gateway.config.key_hash import KeyHash
from gateway.config.structs import Config, Key, Model, Variant
from gateway.control.overlay import Change, Overlay, apply


def config(models=None, keys=None, **adapters):
    return Config(
        backends={
            "gpu": VllmOptions(replicas=("http://h",), adapters=adapters),
            "far": OpenAIOptions(replicas=("http://f",)),
        },
        models={
            "m": Model(variants={"a": Variant(backend="gpu", adapter="v1")}),
            "base": Model(backend="gpu"),
            **(models or {}),
        },
        keys=keys or {},
    )


def overlay(*changes, backend="gpu"):
    """Each a pair: an adapter, and its path or None."""
    made = Overlay()
    for adapter, path in changes:
        made = made.changed(Change(backend, adapter), path)
    return made


def applied(changed, **adapters):
    return apply(config(**adapters), changed).config.backends["gpu"].adapters


def test_adapters_are_added_replaced_and_taken_away():
    changed = overlay(("v2", "/2"), ("v1", "/new"))
    assert applied(changed, v1="/1", v3="/3") == {"v1": "/new", "v2": "/2", "v3": "/3"}
    changed = changed.changed(Change("gpu", "v3"), None)
    assert applied(changed, v1="/1", v3="/3") == {"v1": "/new", "v2": "/2"}


def test_the_last_change_counts():
    assert applied(overlay(("v2", "/2"), ("v2", None)), v1="/1") == {"v1": "/1"}


def passed_over(file, *changes):
    """What of `changes` does not go with `file`; everything else is in force."""
    done = apply(file, overlay(*changes))
    adapters = done.config.backends["gpu"].adapters
    for adapter, path in changes:
        left_out = Change("gpu", adapter) in done.passed_over
        assert (adapters.get(adapter) == path) is not left_out
    return {change.adapter: why for change, why in done.passed_over.items()}


def test_what_a_model_of_the_file_needs_is_not_taken_away():
    why = passed_over(config(v1="/1", v2="/2"), ("v1", None), ("v2", None))
    assert why == {"v1": 'models.m.variants.a.adapter: the backend "gpu" has no adapter "v1"'}


def test_nor_what_one_falls_back_to():
    far = Model(backend="far", fallback=("base:v2",))
    why = passed_over(config({"x": far}, v1="/1", v2="/2"), ("v2", None))
    assert 'models.x.fallback[0]: no model is called "base:v2"' in why["v2"]


def test_nor_what_a_key_may_use():
    file = config(keys={"k": key("base:v2"), "l": key("base:v3*")}, v1="/1", v2="/2", v3="/3")
    why = passed_over(file, ("v2", None), ("v3", None))
    assert 'keys.k.models[0]: no model is called "base:v2"' in why["v2"]
    assert "keys.l.models[0]" in why["v3"]


def test_a_model_of_the_file_keeps_its_name():
    why = passed_over(
        config({"base:late": Model(backend="far")}, v1="/1"), ("early", "/e"), ("late", "/l")
    )
    assert '"base:late" is already the model "base" with its adapter "late"' in why["late"]
    assert [*why] == ["late"]


def test_one_that_its_own_model_would_fall_back_to():
    file = config({"base:*": Model(backend="far")}, v1="/1")
    base = msgspec.structs.replace(file.models["base"], fallback=("base:late",))
    file = msgspec.structs.replace(file, models={**file.models, "base": base})
    assert "is this model itself" in passed_over(file, ("late", "/l"))["late"]


def key(*models):
    return Key(value=KeyHash.of("sk-" + "-".join(models)), models=models)


def test_backends_that_are_gone_or_have_no_adapters_are_passed_over():
    file = config(v1="/1")
    for backend in ("gone", "far"):
        done = apply(file, overlay(("v", "/v"), backend=backend))
        assert (done.config, dict(done.passed_over)) == (file, {})


def test_nothing_changed_is_the_file():
    assert apply(config(v1="/1"), Overlay()).config == config(v1="/1")


FOUND = Discover(dns="http://h.internal", every=Timeout(5))


def test_replicas_are_those_that_were_found_where_the_file_says():
    options = VllmOptions(discover=FOUND, adapters={"v1": "/1"})
    file = msgspec.structs.replace(config(v1="/1"), backends={**config().backends, "gpu": options})
    assert apply(file, Overlay()).config.backends["gpu"].urls == ()
    made = overlay(("v2", "/2")).found("gpu", FOUND, ("http://a", "http://b"))
    made = made.changed(Change("gpu", "v3"), "/3")
    gpu = apply(file, made).config.backends["gpu"]
    assert gpu.urls == ("http://a", "http://b")
    assert set(gpu.adapters) == {"v1", "v2", "v3"}

    sooner = msgspec.structs.replace(options, discover=Discover(dns="http://h.internal"))
    elsewhere = msgspec.structs.replace(options, discover=Discover(dns="http://other.internal"))
    for changed, kept in ((sooner, 2), (elsewhere, 0)):
        other = msgspec.structs.replace(file, backends={**file.backends, "gpu": changed})
        assert len(apply(other, made).config.backends["gpu"].urls) == kept
    assert len(made.found("gpu", elsewhere.discover, ()).replicas) == 1
