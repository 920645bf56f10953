"""`use: llama_cpp`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from msgspec import Meta

from backends.memory import Footprint
from backends.options.in_process import InProcessOptions, PoolingOption

if TYPE_CHECKING:
    from backends.inprocess.backend import InProcessBackend


class LlamaCppOptions(InProcessOptions, frozen=True, kw_only=True, tag="llama_cpp"):
    """A GGUF model in this process, run by llama.cpp."""

    model: Annotated[str, Meta(min_length=1)]
    """A `.gguf` file (relative to the file that names it); of a split model, its first part."""
    max_batch: Annotated[int, Meta(ge=1, le=256)] = 4
    """Sequences generated together, each with room for a whole `context`; further requests wait."""
    context: Annotated[int, Meta(ge=1)] | None = None
    """Tokens that prompt and answer may have together: 8192 if it is not said, and never more than
    the model was trained for. Memory for `max_batch` of them is taken at the start."""
    n_gpu_layers: Annotated[int, Meta(ge=-1)] | None = None
    """Layers to compute on a GPU, -1 for all: what it does by itself where there is one."""
    threads: Annotated[int, Meta(ge=1, le=512)] | None = None
    """Threads that compute: as many as there are cores, where it is not said."""
    tool_parser: Annotated[str, Meta(min_length=1)] = "auto"
    """How the model writes tool calls: `auto` finds out, `none` leaves them as text, or a name."""
    reasoning_parser: Annotated[str, Meta(min_length=1)] = "auto"
    """What the model puts around its thinking: `auto`, `none`, or a name such as `deepseek_r1`."""
    pooling: PoolingOption = "auto"
    """What of a text becomes its embedding; see `MlxOptions`. `auto` is what the file says."""

    def open_here(self, name: str) -> InProcessBackend:
        """See `InProcessOptions.open_here`."""
        from backends.llama_cpp.backend import LlamaCppBackend  # noqa: PLC0415

        return LlamaCppBackend(name, self)

    def adapter(self) -> type[InProcessBackend]:
        """See `InProcessOptions.adapter`."""
        from backends.llama_cpp.backend import LlamaCppBackend  # noqa: PLC0415

        return LlamaCppBackend

    def objection(self) -> str | None:
        """See `Options.objection`."""
        from backends.llama_cpp.gguf_header import objection  # noqa: PLC0415

        return objection(Path(self.model))

    def footprint(self) -> Footprint | None:
        """See `Options.footprint`. Raises `ValueError` or `OSError` for what is no GGUF file."""
        from backends.llama_cpp.memory import footprint  # noqa: PLC0415

        return footprint(Path(self.model), context=self.context, max_batch=self.max_batch)
