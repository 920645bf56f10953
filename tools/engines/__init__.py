"""The real engines that tests and benchmarks run against, built once per user and machine.

`python -m tools.engines build` compiles llama-server and llama-cpp-python, and installs
vLLM, into the user's cache directory; every clone of this project finds them there again. Only the
standard library is imported, because this runs before anything else is installed.

    from tools.engines import ENGINES
    server = ENGINES["llama-server"].find()  # a Path, or None while it is not built
"""

from __future__ import annotations

from tools.engines.engine import Engine
from tools.engines.llama_cpp_python import LlamaCppPython
from tools.engines.llama_server import LlamaServer
from tools.engines.vllm import Vllm

__all__ = ["ENGINES", "Engine"]

ENGINES: dict[str, Engine] = {
    engine.name: engine for engine in (LlamaServer(), LlamaCppPython(), Vllm())
}
"""Every engine this project builds, in the order `build all` takes them."""
