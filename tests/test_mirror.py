"""Tests mirror the packages: whoever looks for the tests of a module knows where they are."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MIRRORED = ("gateway", "backends", "tools", "bench")

ELSEWHERE = {
    "backends/capabilities.py": "tests/contract, which tries what each engine claims",
    "backends/base.py": "an interface: tests/backends, over every implementation of it",
    "backends/inprocess/answer.py": "tests/backends/mlx/test_backend.py, through what it answers",
    "backends/inprocess/backend.py": "tests/backends/mlx/test_backend.py, as an engine uses it",
    "backends/inprocess/chat_prompts.py": "tests/backends/mlx/test_chat.py, by its two libraries",
    "backends/inprocess/constraint.py": "test_answer_constraint.py and test_grammar.py beside it",
    "backends/inprocess/embedder.py": "tests/backends/mlx/test_embedding.py, by what it answers",
    "backends/inprocess/failures.py": "tests/backends/inprocess/test_engine_thread.py",
    "backends/inprocess/job.py": "tests/backends/inprocess/test_engine.py",
    "backends/mlx/caches.py": "tests/backends/mlx/test_prompt_states.py and test_kv_shape.py",
    "backends/mlx/vision/blocks.py": "tests/backends/mlx/vision/test_model.py, on Gemma 3",
    "backends/mlx/vision/loading.py": "tests/backends/mlx/vision/test_model.py, which loads",
    "backends/mlx/vision/look.py": "tests/backends/mlx/vision/test_looking.py",
    "backends/inprocess/prompt.py": "a struct without behaviour",
    "backends/inprocess/runtime.py": "an interface: tests/backends/mlx",
    "backends/llama_cpp/batch.py": "tests/backends/llama_cpp/test_runtime.py, by every step",
    "backends/llama_cpp/embedding_runtime.py": "tests/backends/llama_cpp/test_embedding.py",
    "backends/llama_cpp/matrix.py": "tests/backends/llama_cpp/test_runtime.py, by every step",
    "backends/launch/backend.py": "tests/e2e/test_launch.py, on real engines",
    "backends/launch/residency.py": "an interface: tests/gateway/control/test_residency.py",
    "backends/load.py": "tests/backends/test_gauges.py and inprocess/test_engine.py, who tell it",
    "backends/readiness.py": "structs without behaviour",
    "backends/options/adapters.py": "tests/gateway/config/test_adapters.py, by what is in a file",
    "backends/options/base.py": "tests/backends/options, by every kind of engine",
    "backends/options/images.py": "tests/backends/mlx/vision and tests/gateway/config",
    "backends/options/in_process.py": "tests/backends/isolation/test_options.py",
    "backends/options/llama_cpp.py": "tests/backends/llama_cpp/test_memory.py and test_backend.py",
    "backends/options/llama_server.py": "tests/backends/options/test_launchable.py",
    "backends/options/mlx.py": "tests/backends/mlx/test_model.py and test_backend.py",
    "backends/options/openai.py": "tests/backends/options/test_http.py",
    "backends/options/replicas.py": "tests/backends/options/test_http.py",
    "backends/options/vllm.py": "tests/backends/options/test_launchable.py",
    "backends/tether.py": "tests/backends/test_process.py, whose children it runs",
    "backends/launch/recipes.py": "tests/backends/launch/test_argv.py, by what it comes to",
    "backends/event_loop.py": "tests/backends/isolation, whose child runs on it",
    "gateway/dispatch/failover.py": "tests/faults/test_failover.py and tests/e2e/test_failover.py",
    "gateway/__main__.py": "tests/gateway/cli, by the commands it runs",
    "gateway/api/client_watch.py": "tests/faults/test_cancel.py, by clients that leave",
    "gateway/api/exchange.py": "tests/gateway/api/test_headers.py and tests/faults",
    "gateway/api/http_errors.py": "tests/gateway/api/test_routes.py",
    "gateway/api/openapi.py": "tests/gateway/api/test_routes.py",
    "gateway/api/relay.py": "tests/faults/test_cancel.py and tests/gateway/api/test_inference.py",
    "gateway/app.py": "tests/faults, which run all of it, and tests/e2e",
    "gateway/config/scalars.py": "tests/gateway/config/test_build.py, by what it reads",
    "gateway/config/structs.py": "tests/gateway/config/test_json_schema.py, by what it tells",
    "gateway/conform/finding.py": "structs without behaviour",
    "gateway/dispatch/answer.py": "tests/faults/test_commit_point.py",
    "gateway/dispatch/ask.py": "a struct without behaviour",
    "gateway/dispatch/attempt.py": "tests/faults, by every way in which an attempt can end",
    "gateway/errors.py": "tests/faults/test_dialects.py, in each dialect",
    "gateway/telemetry/families.py": "tests/gateway/telemetry/test_metrics.py, by all that moves",
    "gateway/telemetry/series.py": "tests/gateway/telemetry/test_metrics.py",
    "gateway/wire/translate/chat_request.py": "tests/gateway/wire/translate, by both dialects",
    "gateway/wire/translate/writer.py": "tests/gateway/wire/translate, by both dialects",
    "gateway/wire/usage.py": "tests/gateway/wire/test_watch.py",
}
"""Modules with code and without a test file of their own, and where they are tested."""


def _tests_of(package):
    return sorted((ROOT / "tests" / package).rglob("test_*.py"))


def has_code(path):
    body = ast.parse(path.read_text()).body
    return any(
        isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef) for node in body
    )


def modules_with_code(*packages):
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            if path.name != "__init__.py" and has_code(path):
                yield path.relative_to(ROOT)


@pytest.mark.parametrize("package", MIRRORED)
def test_every_test_file_has_its_module(package):
    strays = []
    for test in _tests_of(package):
        relative = test.relative_to(ROOT / "tests")
        name = relative.name.removeprefix("test_").removesuffix(".py")
        module = ROOT / relative.parent / f"{name}.py"
        if not (module.exists() or (ROOT / relative.parent / name / "__init__.py").exists()):
            strays.append(str(relative))
    assert not strays, "tests without a module of that name"


@pytest.mark.slow
def test_every_module_has_its_test_file():
    missing = [
        str(module)
        for module in modules_with_code("gateway", "backends")
        if not (ROOT / "tests" / module.parent / f"test_{module.name}").exists()
        and str(module) not in ELSEWHERE
    ]
    assert not missing, "modules without a test file: write one, or say where they are tested"


def test_no_exemption_outlives_its_reason():
    for module in ELSEWHERE:
        assert (ROOT / module).exists(), f"{module} is gone"
        test = ROOT / "tests" / Path(module).parent / f"test_{Path(module).name}"
        assert not test.exists(), f"{module} has its own test file"
