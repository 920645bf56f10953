from __future__ import annotations

import subprocess
import sys

import pytest

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


@pytest.mark.slow
def test_an_adapter_is_imported_when_its_options_are_opened():
    script = (
        "import sys; from backends.options import LlamaServerOptions;"
        "options = LlamaServerOptions(replicas=('http://127.0.0.1:1',));"
        "assert 'backends.openai_http' not in sys.modules; options.open('x');"
        "assert 'backends.llama_server.backend' in sys.modules;"
        "assert 'backends.vllm' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
