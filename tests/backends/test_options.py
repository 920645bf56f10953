from __future__ import annotations

import subprocess
import sys

import pytest

from backends.options import (
    Launch,
    LlamaServerOptions,
    OpenAIOptions,
    SlowStart,
    VllmOptions,
    WeightedReplica,
)

PURE = (
    "backends.options",
    "backends.assemble",
    "backends.inprocess.prompt_cache",
    "backends.inprocess.queue",
    "backends.mlx.memory",
    "backends.sse",
    "gateway.policies",
    "gateway.wire.json_answer",
    "gateway.wire.peek",
    "gateway.wire.rename",
    "gateway.wire.watch",
)


@pytest.mark.parametrize("module", PURE)
def test_what_decides_does_no_io_nor_anything_it_imports(module):
    # import-linter sees the text of imports; this sees what a process has in the end.
    heavy = "{'asyncio', 'httpx', 'litestar', 'ssl'}"
    script = f"import sys, {module}; print(*{heavy} & set(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert not done.stdout.strip()


def test_an_adapter_is_imported_when_its_options_are_opened():
    script = (
        "import sys; from backends.options import LlamaServerOptions;"
        "options = LlamaServerOptions(replicas=('http://127.0.0.1:1',));"
        "assert 'backends.openai_http' not in sys.modules; options.open('x');"
        "assert 'backends.llama_server.backend' in sys.modules;"
        "assert 'backends.vllm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)


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


@pytest.mark.parametrize("kind", [LlamaServerOptions, VllmOptions])
def test_what_is_started_here_has_no_urls_and_any_number_of_replicas(kind):
    launched = kind(replicas=2, launch=Launch(model="m"), slow_start=SlowStart())
    assert launched.urls == ()
    assert launched.engine().replicas == 2
    assert launched.engine() == kind(replicas=2, launch=Launch(model="m")).engine()
