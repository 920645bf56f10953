"""llama.cpp in this process: what its engine is loaded from."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from backends.capabilities import Capability
from backends.inprocess.backend import InProcessBackend
from backends.inprocess.loading import Loading
from backends.llama_cpp import model
from backends.options import LlamaCppOptions


class LlamaCppBackend(InProcessBackend):
    """One GGUF model in this process."""

    provider = "llama_cpp"
    library: ClassVar[str] = "llama.cpp"
    capabilities = InProcessBackend.capabilities | {
        Capability.EMBEDDINGS,
        Capability.FORCED_TOOLS,
        Capability.JSON_OBJECT,
        Capability.JSON_SCHEMA,
        Capability.LOGPROBS,
    }

    def __init__(self, name: str, options: LlamaCppOptions) -> None:
        super().__init__(name, options, partial(model.load, options, Loading(name)))
