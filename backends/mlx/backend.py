"""MLX in this process: what its engine is loaded from."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

from backends.capabilities import Capability
from backends.inprocess.backend import InProcessBackend
from backends.inprocess.loading import Loading
from backends.mlx import model
from backends.options import MlxOptions


class MlxBackend(InProcessBackend):
    """One MLX model in this process."""

    provider = "mlx"
    library: ClassVar[str] = "MLX"
    capabilities = InProcessBackend.capabilities | {
        Capability.EMBEDDINGS,
        Capability.FORCED_TOOLS,
        Capability.IMAGES,
        Capability.JSON_OBJECT,
        Capability.JSON_SCHEMA,
        Capability.LOGPROBS,
    }
    conditional = frozenset({Capability.IMAGES})
    """Until the model is loaded: then it sees, or does not."""

    def __init__(self, name: str, options: MlxOptions) -> None:
        load = partial(
            model.load,
            options.model,
            max_batch=options.max_batch,
            context=options.context,
            kv_cache=options.kv_cache,
            prompt_cache=options.prompt_cache,
            adapters=tuple(options.adapters.values()),
            tool_parser=options.tool_parser,
            reasoning_parser=options.reasoning_parser,
            pooling=options.pooling,
            loading=Loading(name),
        )
        super().__init__(name, options, load, images=options.images)
