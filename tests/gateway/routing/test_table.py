from __future__ import annotations

from typing import Any

import msgspec
import pytest

from backends.base import Adapter
from backends.options import MlxOptions, OpenAIOptions, VllmOptions
from backends.units import Timeout
from gateway.config.structs import Config, Fallback, Model, Retry, Rule, Timeouts, Variant, When
from gateway.errors import ModelNotFound
from gateway.policies import POLICIES
from gateway.routing.table import Sticky, Table

BACKENDS = {
    "named": OpenAIOptions(replicas=("http://n",), model="Engine/Name"),
    "plain": OpenAIOptions(replicas=("http://p",)),
    "inside": MlxOptions(model="/models/tale"),
    "tuned": VllmOptions(replicas=("http://t",), adapters={"v1": "/m/v1", "v2": "/m/v2"}),
}


def table(**models: Model) -> Table:
    replicas: Any = {name: (f"replica of {name}",) for name in BACKENDS}
    config = Config(
        backends=BACKENDS,
        models={name.replace("_", "-").replace("ANY", "*"): it for name, it in models.items()},
    )
    return Table.build(config, replicas)


def test_a_name_is_looked_up_exactly_then_as_alias_then_as_glob() -> None:
    routes = table(
        qwen_8b=Model(backend="plain"),
        other=Model(backend="plain", aliases=("qwen-8b-chat", "gpt-*")),
        qwen_ANY=Model(backend="plain"),
        qwen_72ANY=Model(backend="plain"),
    )
    assert routes.resolve("qwen-8b").name == "qwen-8b"
    assert routes.resolve("qwen-8b-chat").name == "other"
    assert routes.resolve("gpt-4").name == "other"
    assert routes.resolve("qwen-3").name == "qwen-*"
    assert routes.resolve("qwen-72b").name == "qwen-72*"


def test_an_unknown_name_is_told_with_near_public_ones() -> None:
    routes = table(
        assistant=Model(backend="plain", aliases=("gpt-4o-mini", "gpt-5*")),
        assistent=Model(backend="plain", public=False),
    )
    with pytest.raises(ModelNotFound) as caught:
        routes.resolve("Asistant")
    assert caught.value.param == "model"
    assert caught.value.status == 404
    assert "'assistant'" in caught.value.message
    assert "assistent" not in caught.value.message
    with pytest.raises(ModelNotFound, match="gpt-4o-mini"):
        routes.resolve("gpt-4o")


def test_names_that_the_caller_may_not_see_are_not_suggested() -> None:
    routes = table(assistant=Model(backend="plain"))
    with pytest.raises(ModelNotFound) as caught:
        routes.resolve("assistan", visible=lambda _: False)
    assert caught.value.message == (
        'The model "assistan" does not exist. `GET /v1/models` lists those that do.'
    )


@pytest.mark.parametrize("name", ["", "x" * 1_000_000, 'a"\n\x1b[0m', "*", "qwen-*\0"])
def test_a_strange_name_is_repeated_short_and_harmless(name: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        table(assistant=Model(backend="plain")).resolve(name)
    assert len(caught.value.message) < 400
    assert caught.value.message.isprintable()


def test_the_engine_gets_its_own_name_for_the_model() -> None:
    routes = table(
        a=Model(
            aliases=("alias",),
            variants={
                "own": Variant(backend="named", model="Mine"),
                "backends": Variant(backend="named"),
                "routes": Variant(backend="plain"),
                "inside": Variant(backend="inside"),
            },
        )
    )
    names = {it.name: it.upstream_model("alias") for it in routes.resolve("alias").variants}
    assert names == {"own": "Mine", "backends": "Engine/Name", "routes": "a", "inside": "a"}


def test_a_glob_passes_on_the_name_that_was_asked_for() -> None:
    routes = table(
        qwen_ANY=Model(
            variants={"plain": Variant(backend="plain"), "named": Variant(backend="named")}
        )
    )
    route = routes.resolve("qwen-8b")
    assert [it.upstream_model("qwen-8b") for it in route.variants] == ["qwen-8b", "Engine/Name"]


def test_a_route_carries_what_the_model_says() -> None:
    model = Model(
        variants={
            "x": Variant(backend="plain", weight=1),
            "y": Variant(backend="inside", weight=3),
        },
        rules=(Rule(when=When(headers={"X-Canary": "y*"}, keys=("bob",)), variant="y"),),
        sticky="header:X-Session",
        balance="random",
        retry=Retry(attempts=5),
        timeouts=Timeouts(total=Timeout(9)),
        fallback=("other",),
    )
    route = table(a=model, other=Model(backend="plain")).resolve("a")
    assert [(it.name, it.weight, it.backend) for it in route.variants] == [
        ("x", 1, "plain"),
        ("y", 3, "inside"),
    ]
    assert route.variants[0].replicas == ("replica of plain",)
    (rule,) = route.rules
    assert rule.variant is route.variants[1]
    assert rule.headers[0][0] == b"x-canary"
    assert rule.headers[0][1].matches("yes")
    assert rule.keys == {"bob"}
    assert route.sticky == Sticky("header", b"x-session")
    assert (route.retry.attempts, route.timeouts.total) == (5, 9)
    assert {type(it.policy) for it in route.variants} == {POLICIES["random"]}
    assert route.fallback == Fallback(unavailable=("other",), overloaded=("other",))


def test_the_short_form_is_one_variant_called_default() -> None:
    (variant,) = table(a=Model(backend="plain", model="E")).resolve("a").variants
    assert (variant.name, variant.upstream_model("a")) == ("default", "E")


def test_routes_cannot_be_changed() -> None:
    route = table(a=Model(backend="plain")).resolve("a")
    with pytest.raises(AttributeError):
        route.name = "b"  # type: ignore[misc]
    assert isinstance(route, msgspec.Struct)


def test_a_model_is_there_with_each_adapter_of_its_engine() -> None:
    routes = table(base=Model(backend="tuned", aliases=("b",)), sql=Model(backend="plain"))
    assert [route.name for route in routes.routes] == ["base", "base:v1", "base:v2", "sql"]
    (variant,) = routes.resolve("b:v2").variants
    assert variant.adapter == Adapter("v2", "/m/v2")
    assert routes.resolve("b:v2").parent == "base"
    assert routes.resolve("base").parent is None
    assert variant.upstream_model("b:v2") == "base"


def test_a_variant_with_an_adapter_keeps_to_replicas_that_have_it() -> None:
    class Fake:
        def __init__(self, *has: str) -> None:
            self.has = has

        def serves(self, adapter: Adapter | None) -> bool:
            return adapter is None or adapter.name in self.has

    one, other = Fake("v1"), Fake("v1", "v2")
    replicas: Any = dict.fromkeys(BACKENDS, (one, other))
    models = {"m": Model(backend="tuned"), "n": Model(backend="tuned", adapter="v2")}
    routes = Table.build(Config(backends=BACKENDS, models=models), replicas)
    assert routes.resolve("m").variants[0].able() == (one, other)
    assert routes.resolve("n").variants[0].able() == (other,)
    assert routes.resolve("m:v1").variants[0].able() == (one, other)


def test_what_a_policy_remembers_outlives_a_reload() -> None:
    replicas: Any = {name: (f"replica of {name}",) for name in BACKENDS}

    def built(before: Table | None, **fields: Any) -> Table:
        models = {"m": Model(**fields), "tuned": Model(backend="tuned")}
        return Table.build(Config(backends=BACKENDS, models=models), replicas, before)

    def policy(of: Table, name: str = "m") -> object:
        return of.resolve(name).variants[0].policy

    first = built(None, backend="plain")
    assert policy(built(first, backend="plain", aliases=("n",))) is policy(first)
    assert policy(built(first, backend="plain"), "tuned:v1") is policy(first, "tuned:v1")
    assert policy(first, "tuned:v1") is not policy(first, "tuned")
    assert policy(built(first, backend="named")) is not policy(first)
    assert type(policy(built(first, backend="plain", balance="random"))) is POLICIES["random"]
