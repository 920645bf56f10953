"""Parts that are right alone and wrong together."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.config import Config
from gateway.config.checks import is_loopback
from gateway.config.structs import Fallback

Problems = Callable[..., list[str]]
Load = Callable[..., Config]

BACKENDS = "backends: {b: {use: openai, replicas: [http://h]}}\n"


def models(*lines: str) -> str:
    return BACKENDS + "models:\n" + "".join(f"  {line}\n" for line in lines)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (["m: {backend: bb}"], '3: models.m.backend: no backend is called "bb"; did you mean "b"?'),
        (["m: {}"], "3: models.m: expected `backend` or `variants`, found neither"),
        (
            ["m: {backend: b, variants: {a: {backend: b}}}"],
            "3: models.m.variants: found both `backend` and `variants`; keep one",
        ),
        (
            ["m: {model: x, variants: {a: {backend: b}}}"],
            "3: models.m.model: `model` goes with `backend`, not with `variants`",
        ),
        (
            [
                "m:",
                "  variants:",
                "    a: {backend: b, weight: 0}",
                "    c: {backend: b, weight: 0}",
            ],
            "4: models.m.variants: the weights of all variants are 0",
        ),
        (
            ["m:", "  variants:", "    stable: {backend: qwn}"],
            '5: models.m.variants.stable.backend: no backend is called "qwn"; there is b',
        ),
        (
            ["m: {backend: b, aliases: [x, x]}"],
            '3: models.m.aliases[1]: "x" is an alias of "m" already',
        ),
        (
            ["m: {backend: b, aliases: [x]}", "n: {backend: b, aliases: [x]}"],
            '4: models.n.aliases[0]: "x" is an alias of "m" already',
        ),
        (
            ["m: {backend: b, aliases: [n]}", "n: {backend: b}"],
            '3: models.m.aliases[0]: "n" is the name of a model already',
        ),
        (
            ["m: {backend: b, fallback: [nn]}", "n: {backend: b}"],
            '3: models.m.fallback[0]: no model is called "nn"; did you mean "n"?',
        ),
        (
            ["m: {backend: b, fallback: ['n-*']}", "'n-*': {backend: b}"],
            '3: models.m.fallback[0]: expected one model, found the glob "n-*"',
        ),
        (
            ["m: {backend: b, fallback: [m]}"],
            '3: models.m.fallback[0]: "m" is this model itself; name another one',
        ),
        (
            ["m: {backend: b, aliases: [x], fallback: [x]}"],
            '3: models.m.fallback[0]: "x" is this model itself',
        ),
        (
            ["'q-*': {backend: b, fallback: [q-1]}"],
            '3: models.q-*.fallback[0]: "q-1" is this model itself',
        ),
        (
            ["m: {backend: b, rules: [{when: {}, variant: default}]}"],
            "3: models.m.rules[0].when: the condition is empty",
        ),
        (
            ["m: {backend: b, rules: [{when: {headers: {a: b}}, variant: defualt}]}"],
            '3: models.m.rules[0].variant: no variant is called "defualt"; did you mean "default"?',
        ),
        (
            ["m: {backend: b, rules: [{when: {headers: {'a b': c}}, variant: default}]}"],
            '3: models.m.rules[0].when.headers."a b": is no name of an HTTP header',
        ),
        (
            ["m: {backend: b, rules: [{when: {keys: [bob]}, variant: default}]}"],
            '3: models.m.rules[0].when.keys[0]: no key is called "bob"',
        ),
        (
            ["m: {backend: b, fallback: [n, o, n]}", "n: {backend: b}", "o: {backend: b}"],
            '3: models.m.fallback[2]: "n" is here twice; keep one',
        ),
        (
            ["m: {backend: b, fallback: {context: [nn]}}", "n: {backend: b}"],
            '3: models.m.fallback.context[0]: no model is called "nn"; did you mean "n"?',
        ),
        (
            ["m: {backend: b, fallback: {context: [m]}}"],
            '3: models.m.fallback.context[0]: "m" is this model itself',
        ),
        (
            ["m: {backend: b, model: x, fallback: {context: [n]}}", "n: {backend: b, model: x}"],
            '3: models.m.fallback.context[0]: "n" is the same engine, for which it is as long',
        ),
        (
            ["m: {backend: b, fallback: {contxt: [n]}}", "n: {backend: b}"],
            'models.m.fallback.contxt: unknown key; did you mean "context"?',
        ),
    ],
)
def test_models_that_do_not_fit_together_are_told_once(
    problems: Problems, lines: list[str], said: str
) -> None:
    (problem,) = problems(models(*lines))
    assert said in problem


@pytest.mark.parametrize("cause", ["unavailable", "overloaded", "context"])
def test_models_may_stand_in_for_each_other(load_text: Load, cause: str) -> None:
    lines = [
        f"m: {{backend: b, model: x, fallback: {{{cause}: [n]}}}}",
        f"n: {{backend: b, model: y, fallback: {{{cause}: [o]}}}}",
        f"o: {{backend: b, model: z, fallback: {{{cause}: [m, n]}}}}",
    ]
    fallbacks = load_text(models(*lines)).models["o"].fallbacks()
    assert getattr(fallbacks, cause) == ("m", "n")


def test_a_plain_list_is_not_for_what_is_too_long(load_text: Load) -> None:
    model = load_text(models("m: {backend: b, fallback: [n]}", "n: {backend: b}")).models["m"]
    assert model.fallbacks() == Fallback(unavailable=("n",), overloaded=("n",))


@pytest.mark.slow
def test_a_long_chain_of_fallbacks_is_fine(load_text: Load) -> None:
    lines = [f"m{n}: {{backend: b, fallback: [m{n + 1}]}}" for n in range(1500)]
    assert len(load_text(models(*lines, "m1500: {backend: b}")).models) == 1501


@pytest.mark.parametrize(
    ("replicas", "said"),
    [
        ("[http://h:1, http://h:1]", 'replicas[1]: "http://h:1" is here twice'),
        ("[http://h:1, {url: http://h:1, weight: 2}]", 'replicas[1]: "http://h:1" is here twice'),
        ("[http://h:1, http://H:1/v1/]", '"http://H:1/v1/" is here twice; it is replicas[0] too'),
        ("[https://user:pass@h]", "credentials in a URL, which is shown; use `api_key`"),
    ],
)
def test_replicas_are_told_apart(problems: Problems, replicas: str, said: str) -> None:
    text = f"backends: {{b: {{use: vllm, replicas: {replicas}}}}}\nmodels: {{m: {{backend: b}}}}"
    (problem,) = problems(text)
    assert said in problem


@pytest.mark.parametrize("host", ["0.0.0.0", "'::'", "10.0.0.1", "example.com"])
def test_listening_to_the_world_without_keys_is_refused(
    problems: Problems, load_text: Load, host: str
) -> None:
    base = models("m: {backend: b}")
    (problem,) = problems(f"{base}server: {{host: {host}}}")
    assert problem.startswith("routing.yaml:4: server.host: ")
    assert "add `keys:`, listen on 127.0.0.1, or say `insecure: true`" in problem
    assert load_text(f"{base}server: {{host: {host}, insecure: true}}").server.insecure
    assert load_text(f"{base}server: {{host: {host}}}\nkeys: {{a: {{value: abcdefgh}}}}").keys


def test_broken_keys_do_not_look_like_no_keys(problems: Problems) -> None:
    told = problems(models("m: {backend: b}") + "server: {host: 0.0.0.0}\nkeys: {a: {value: x}}")
    assert len(told) == 1
    assert "keys.a.value" in told[0]


@pytest.mark.parametrize(
    ("host", "loopback"),
    [
        ("localhost", True),
        ("127.1.2.3", True),
        ("::1", True),
        ("[::1]", True),
        ("0.0.0.0", False),
        ("::", False),
        ("localhost.evil.com", False),
        ("127.0.0.1.nip.io", False),
    ],
)
def test_only_loopback_is_loopback(host: str, loopback: bool) -> None:
    assert is_loopback(host) is loopback


def test_two_keys_with_one_value_are_refused_without_showing_it(problems: Problems) -> None:
    text = models("m: {backend: b}") + "keys:\n  a: {value: ${K}}\n  b: {value: ${K}}\n"
    (problem,) = problems(text, {"K": "sk-12345678"})
    assert problem == ('routing.yaml:6: keys.b.value: is the same as that of "a"; make a new one')


@pytest.mark.parametrize("wanted", ["m", "x", "m*", "*", "q-7", "q-*", "q-7-*"])
def test_a_key_may_name_models_aliases_and_globs(load_text: Load, wanted: str) -> None:
    text = models("m: {backend: b, aliases: [x]}", "q-*: {backend: b}")
    assert load_text(text + f"keys: {{a: {{value: abcdefgh, models: ['{wanted}']}}}}")


def test_a_key_for_a_model_that_is_not_there_is_told(problems: Problems) -> None:
    text = models("model: {backend: b}")
    for wanted in ("modle", "zzz*"):
        (problem,) = problems(text + f"keys: {{a: {{value: abcdefgh, models: ['{wanted}']}}}}")
        assert f'keys.a.models[0]: no model is called "{wanted}"' in problem


def test_an_item_that_could_not_be_built_does_not_move_the_others(problems: Problems) -> None:
    said = problems(
        "backends:\n  b:\n    use: openai\n    replicas:\n"
        "      - ftp://x\n      - http://good\n      - http://x?y=1\n      - http://good\n"
        "models: {m: {backend: b}}\n"
    )
    assert [line.split(":")[1] for line in said] == ["5", "7", "8"]
    assert "replicas[2]" in said[1]
    assert "replicas[3]" in said[2]
    assert "it is replicas[1] too" in said[2]
