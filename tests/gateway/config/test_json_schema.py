from __future__ import annotations

import json
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from gateway.config import schema


def file(**top: Any) -> dict[str, Any]:
    return {
        "backends": {"b": {"use": "vllm", "replicas": ["http://h"]}},
        "models": {"m": {"backend": "b"}},
        **top,
    }


def test_the_schema_is_json() -> None:
    assert json.loads(json.dumps(schema())) == schema()


def test_every_key_is_described() -> None:
    for name, definition in schema()["$defs"].items():
        assert definition["description"], name
        for key, described in definition["properties"].items():
            assert described.get("description"), f"{name}.{key}"


def test_defaults_are_shown_as_they_would_be_written() -> None:
    definitions = schema()["$defs"]
    assert definitions["Timeouts"]["properties"]["connect"]["default"] == "2s"
    assert definitions["Limits"]["properties"]["body"]["default"] == "32MiB"
    assert definitions["Server"]["properties"]["port"]["default"] == 8088
    assert definitions["Model"]["properties"]["sticky"]["default"] == "conversation"


@pytest.mark.parametrize(
    "good",
    [
        file(),
        file(server={"port": "${PORT:-8088}", "insecure": "${OPEN}"}),
        file(server={"drain": {"grace": 0, "timeout": "1m30s"}, "limits": {"body": "${B}MiB"}}),
        file(keys={"alice": {"value": "${ALICE_KEY}"}}),
        file(models={"m": {"backend": "b", "balance": "${BALANCE}"}}),
        file(backends={"b": {"use": "mlx", "model": "x", "images": {"fetch_from": ["*.a.org"]}}}),
        file(backends={"b": {"use": "mlx", "model": "x", "images": {"fetch_from": ["[::1]:80"]}}}),
        file(backends={"b": {"use": "mlx", "model": "x", "images": {"fetch_from": ["a:65535"]}}}),
        file(**{"x-mine": {"anything": 1}}),
    ],
)
def test_what_is_right_fits(validator: Draft202012Validator, good: dict[str, Any]) -> None:
    validator.validate(good)


@pytest.mark.parametrize(
    "bad",
    [
        {},
        file(severs={}),
        file(server={"port": "8088"}),
        file(server={"port": 70000}),
        file(server={"keep_alive": 75}),
        file(server={"limits": {"body": 1000}}),
        file(backends={}),
        file(backends={"b": {"use": "vlm", "replicas": ["http://h"]}}),
        file(backends={"b": {"use": "vllm", "replicas": []}}),
        file(backends={"b": {"use": "mlx", "model": "x", "replicas": ["http://h"]}}),
        file(backends={"b": {"use": "mlx", "model": "x", "images": {"fetch_from": ["http://a"]}}}),
        file(backends={"b": {"use": "mlx", "model": "x", "images": {"fetch_from": ["a.*.org"]}}}),
        file(backends={"b": {"use": "mlx", "model": "x", "images": {"fetch_from": ["a:65536"]}}}),
        file(backends={"b": {"use": "llama_cpp", "model": "x", "images": {}}}),
        file(backends={"a b": {"use": "vllm", "replicas": ["http://h"]}}),
        file(models={"m": {"backend": "b", "balance": "robin"}}),
        file(models={"m": {"backend": "b", "sticky": "usr"}}),
        file(keys={"alice": {"value": "short"}}),
    ],
)
def test_what_is_wrong_does_not_fit(validator: Draft202012Validator, bad: dict[str, Any]) -> None:
    assert not validator.is_valid(bad)
