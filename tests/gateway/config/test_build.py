"""Types against what people write: every mistake is told, with its line, and none hides another."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from gateway.config import Config
from gateway.config.key_hash import KeyHash

Problems = Callable[..., list[str]]
Load = Callable[..., Config]

BASE = "backends: {b: {use: openai, replicas: [http://h:1]}}\nmodels: {m: {backend: b}}\n"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "server: {port: '8088'}",
            "server.port: expected a whole number from 0 to 65535, found te",
        ),
        ("server: {port: 80.5}", "found 80.5"),
        ("server: {port: 0x50}", "found 0x50"),
        ("server: {port: 1:30}", "found 1:30"),
        ("server: {port: 70000}", "found 70000"),
        ("server: {port: eighty}", 'found "eighty"'),
        ("server: {port: [80]}", "server.port: expected a single value, found a list"),
        ("server: {port: }", "found nothing"),
        ("server: {insecure: yes}", "server.insecure: expected true or false, found yes"),
        ("server: {insecure: 'true'}", 'found "true"'),
        ("server: {insecure: 1}", "found 1"),
        ("server: {host: 7}", "server.host: expected a host name or an IP address, found a number"),
        ("server: {host: on}", 'found a boolean; in quotes it is text: "on"'),
        ("server: {host: ''}", "server.host: expected a host name"),
        ("server: {host: 'a b'}", 'found "a b"'),
        ("server: {hots: x}", 'server.hots: unknown key; did you mean "host"?'),
        ("server:", "server: expected a mapping, found nothing; fill it, or leave the line out"),
        ("server: 8088", "server: expected a mapping, found 8088"),
        ("server: []", "server: expected a mapping, found a list"),
        ("server: !env {}", "server: found a tag"),
        (
            "server: {limits: {body: 64}}",
            "expected a size with its unit, such as 64KiB, 32MB or 1GiB, found 64",
        ),
        ("server: {keep_alive: 0s}", "expected a duration above zero"),
        (
            "telemetry: {sample: .nan}",
            "telemetry.sample: expected a number from 0 to 1, found .nan",
        ),
        ("telemetry: {sample: -.inf}", "found -.inf"),
        ("telemetry: {sample: 1e999}", "expected a number from 0 to 1"),
        ("telemetry: {otlp_endpoint: localhost}", "expected a URL such as http://host:4318"),
        ("retry_budget: {percent: 101}", "expected a number from 0 to 100, found 101"),
        ("keys: [a]", "keys: expected a mapping of names, found a list"),
        ("keys: {'a b': {value: abcdefgh}}", "expected a name of at most 64 letters"),
        ("? [a]\n: 1", "expected a name as the key"),
        ("server: {port: 1, port: 2}", "server.port: is here twice; first at line 3"),
        ("severs: {}", 'severs: unknown key; did you mean "server"?'),
    ],
)
def test_a_wrong_value_is_told_with_line_and_path(problems: Problems, text: str, said: str) -> None:
    (problem,) = problems(BASE + text)
    assert problem.startswith("routing.yaml:3: ")
    assert said in problem


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("{}", "backends.b.use: is missing; one of openai, llama_server, vllm, mlx"),
        (
            "{use: vlm}",
            'expected one of openai, llama_server, vllm, mlx, llama_cpp, found "vlm"; did you mean',
        ),
        ("{use: vllm}", "backends.b.replicas: is missing"),
        (
            "{use: vllm, replicas: []}",
            "backends.b.replicas: expected at least one entry, found none",
        ),
        ("{use: vllm, replicas: http://h}", 'expected a list, found "http://h"; write [http://h]'),
        ("{use: vllm, replicas: [h:1]}", "backends.b.replicas[0]: expected a URL such as"),
        ("{use: vllm, replicas: [{weight: 2}]}", "backends.b.replicas[0].url: is missing; a URL"),
        ("{use: vllm, replicas: [{url: h:1}]}", "b.replicas[0].url: expected a URL such as"),
        (
            "{use: vllm, replicas: [{url: http://h, weight: 0}]}",
            "b.replicas[0].weight: expected a number from 0.01 to 1000, found 0",
        ),
        ("{use: vllm, replicas: [[http://h]]}", "b.replicas[0]: expected a single value, found"),
        (
            "{use: vllm, replicas: [http://h], slow_start: {window: 0s}}",
            "b.slow_start.window: expected",
        ),
        (
            "{use: vllm, replicas: [http://h], without: [tolls]}",
            "b.without[0]: expected one of chat, completions, responses, messages, count_tokens, ",
        ),
        ("{use: vllm, replicas: [http://h], without: [tolls]}", '"tolls"; did you mean "tools"?'),
        (
            "{use: vllm, replicas: [http://h], modle: x}",
            'modle: unknown key; did you mean "model"?',
        ),
        ("vllm", "backends.b: expected a mapping, found a single value"),
        ("{use: mlx}", "backends.b.model: is missing"),
        ("{use: [vllm]}", "backends.b.use: expected a single value, found a list"),
    ],
)
def test_a_wrong_backend_is_told_once_and_still_counts_as_there(
    problems: Problems, backend: str, said: str
) -> None:
    (problem,) = problems(f"models: {{m: {{backend: b}}}}\nbackends:\n  b: {backend}\n")
    assert problem.startswith("routing.yaml:3: ")
    assert said in problem


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            "{backend: b, balance: robin}",
            "expected one of least_outstanding, p2c_ewma, prefix_affinity, random, round_robin, "
            "session",
        ),
        (
            "{backend: b, sticky: usr}",
            "expected `user`, `key`, `conversation`, `none` or `header:N",
        ),
        (
            "{backend: b, aliases: gpt}",
            'models.m.aliases: expected a list, found "gpt"; write [gpt]',
        ),
        ("{backend: b, aliases: ['a b']}", "models.m.aliases[0]: expected a name of at most 256"),
        ("{backend: no}", "models.m.backend: expected text, found a boolean"),
        ("{backend: b, timeouts: {idle: 30}}", "models.m.timeouts.idle: expected a duration"),
        ("{backend: b, retry: {attempts: 0}}", "expected a whole number from 1 to 10, found 0"),
        ("{variants: {a: {weight: 1}}}", "models.m.variants.a.backend: is missing"),
        ("{variants: {a: {backend: b, weight: -1}}}", "from 0 to 1000000, found -1"),
        ("{variants: [b]}", "models.m.variants: expected a mapping of names, found a list"),
        ("{backend: b, rules: [{variant: default}]}", "models.m.rules[0].when: is missing"),
    ],
)
def test_a_wrong_model_is_told_once(problems: Problems, model: str, said: str) -> None:
    text = f"backends: {{b: {{use: openai, replicas: [http://h]}}}}\nmodels:\n  m: {model}\n"
    (problem,) = problems(text)
    assert problem.startswith("routing.yaml:3: ")
    assert said in problem


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[]", "routing.yaml:1: expected a mapping, found a list"),
        ("hello", "routing.yaml:1: expected a mapping, found a single value"),
        ("---\n", "routing.yaml:2: expected a mapping, found nothing"),
        ("{}", "routing.yaml:1: backends: is missing; a mapping of names"),
        ("models: {m: {backend: b}}\nbackends: {}", "backends: expected at least one entry"),
    ],
)
def test_a_file_that_is_no_configuration_is_told(problems: Problems, text: str, said: str) -> None:
    assert said in problems(text)[0]


def test_all_mistakes_are_told_at_once_in_the_order_of_lines(problems: Problems) -> None:
    told = problems(
        "server:\n  port: x\nbackends:\n  b: {use: vllm, replicas: [foo, bar]}\n"
        "models:\n  m: {backend: c, public: 1}\n  n: {backends: b}\nextra: 1\n"
    )
    assert [line.split(": ")[0] + " " + line.split(": ")[1] for line in told] == [
        "routing.yaml:2 server.port",
        "routing.yaml:4 backends.b.replicas[0]",
        "routing.yaml:4 backends.b.replicas[1]",
        "routing.yaml:6 models.m.backend",
        "routing.yaml:6 models.m.public",
        "routing.yaml:7 models.n.backends",
        "routing.yaml:8 extra",
    ]


SECRET = "sk-top-secret-value"


@pytest.mark.parametrize(
    "text",
    [
        f"keys: {{alice: {SECRET}}}",
        f"keys: [{SECRET}]",
        f"keys: {{alice: {{value: [{SECRET}]}}}}",
        f"keys: {{alice: {{value: '{SECRET} x'}}}}",
        f"keys: {{alice: {{vaule: {SECRET}}}}}",
        "keys: {alice: {value: $KEY x}, bob: {value: '${KEY} x'}}",
        "server: {port: '${KEY}'}",
        "server: {host: '${KEY} x'}",
        "server: {drain: {grace: '${KEY}'}}",
        "server: {limits: {body: '${KEY}'}}",
        "server: {insecure: '${KEY}'}",
        f"server: {{drain: {{grace: https://user:{SECRET}@host}}}}",
        f"keys: {SECRET}",
    ],
)
def test_no_message_holds_a_secret(problems: Problems, text: str) -> None:
    env = {"KEY": SECRET}
    assert SECRET not in "\n".join(problems(BASE + text, env))


def test_an_engine_key_in_the_wrong_place_is_not_repeated(problems: Problems) -> None:
    for backend in (
        SECRET,
        f"{{use: vllm, replicas: [http://h], api_key: [{SECRET}]}}",
        f'{{use: vllm, replicas: [http://h], api_key: "{SECRET}\\n"}}',
        f"{{use: vllm, replicas: http://u:{SECRET}@h}}",
        f"{{use: vllm, replicas: [ftp://u:{SECRET}@h]}}",
        f"{{use: vllm, replicas: [http://u:{SECRET}@h]}}",
    ):
        told = problems(f"backends: {{b: {backend}}}\nmodels: {{m: {{backend: b}}}}\n")
        assert SECRET not in "\n".join(told)


def test_secrets_do_not_show_in_the_configuration(load_text: Load) -> None:
    config = load_text(
        "backends: {b: {use: openai, replicas: [http://h], api_key: ${KEY}}}\n"
        "models: {m: {backend: b}}\nkeys: {alice: {value: ${KEY}}}\n",
        {"KEY": SECRET},
    )
    assert SECRET not in repr(config)
    assert SECRET not in str(config)
    assert config.keys["alice"].value == KeyHash.of(SECRET)
    assert config.backends["b"].api_key.reveal() == SECRET  # type: ignore[union-attr]
    assert config.backends["b"].api_key.origin == "${KEY}"  # type: ignore[union-attr]


def test_numbers_and_booleans_may_come_from_the_environment(load_text: Load) -> None:
    config = load_text(
        BASE + 'server: {port: "${PORT}", insecure: ${OPEN:-true}}\ntelemetry: {sample: ${S:-.5}}',
        {"PORT": "9000"},
    )
    assert (config.server.port, config.server.insecure) == (9000, True)
    assert config.telemetry.sample == 0.5


def test_text_from_the_environment_stays_text(load_text: Load) -> None:
    config = load_text(BASE.replace("backend: b", "backend: b, model: ${M}"), {"M": "7"})
    assert config.models["m"].model == "7"


def test_a_missing_variable_is_told_at_its_place(problems: Problems) -> None:
    (problem,) = problems(BASE + "server:\n  host: ${HOST}\n")
    assert problem == (
        "routing.yaml:4: server.host: the environment variable HOST is not set; "
        "set it, or write ${HOST:-default}"
    )


def test_names_do_not_come_from_the_environment(problems: Problems) -> None:
    (problem,) = problems(BASE.replace("{m:", "{'${M}':"), {"M": "x"})
    assert "read in values, not in names" in problem


def test_anchors_and_merges_share_settings(load_text: Load) -> None:
    config = load_text(
        "x-base: &base {backend: b, timeouts: {total: 5m}, public: false}\n"
        "backends: {b: {use: openai, replicas: [http://h]}}\n"
        "models:\n  m: {<<: *base, public: true}\n  n: *base\n"
    )
    assert config.models["m"].public
    assert config.models["m"].timeouts.total == 300
    assert not config.models["n"].public


def test_a_merge_of_no_mapping_is_told(problems: Problems) -> None:
    (problem,) = problems(BASE.replace("{backend: b}", "{<<: [1], backend: b}"))
    assert "expected an alias of a mapping" in problem
