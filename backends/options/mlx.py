"""`use: mlx`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import msgspec
from msgspec import Meta

from backends.base import Adapter
from backends.memory import Footprint
from backends.options.adapters import AdapterName, AdapterPath, loras
from backends.options.base import Options
from backends.options.images import Images
from backends.options.in_process import InProcessOptions, PoolingOption
from backends.units import Size

if TYPE_CHECKING:
    from backends.inprocess.backend import InProcessBackend


class MlxOptions(InProcessOptions, frozen=True, kw_only=True, tag="mlx"):
    """An MLX model in this process: a directory, or the id of a model on the hub."""

    model: Annotated[str, Meta(min_length=1)]
    """A directory (relative to the file that names it), or a hub id such as `org/name`."""
    context: Annotated[int, Meta(ge=1)] | None = None
    """Tokens that prompt and answer may have together, if less than what the model can read."""
    kv_cache: Size | None = None
    """Memory for the tokens of all sequences that run: enough for `max_batch` of a whole `context`
    where it is not said, but at most a quarter of what the weights leave of the machine's."""
    prompt_cache: Size | None = None
    """Memory for what has been computed of earlier prompts and answers, beside it; a quarter of
    `kv_cache` where it is not said, 0 for none."""
    tool_parser: Annotated[str, Meta(min_length=1)] = "auto"
    """How the model writes tool calls: `auto` finds out, `none` leaves them as text, or a name."""
    reasoning_parser: Annotated[str, Meta(min_length=1)] = "auto"
    """What the model puts around its thinking: `auto`, `none`, or a name such as `deepseek_r1`."""
    adapters: dict[AdapterName, AdapterPath] = {}  # noqa: RUF012 — a struct makes its own of it
    """LoRA adapters, in mlx-lm's format or PEFT's: what they are called here, and their
    directories (relative to the file that names them)."""
    pooling: PoolingOption = "auto"
    """What of a text becomes its embedding: the `mean` of its tokens, the `last` or the first
    (`cls`). `auto` is what the model's `1_Pooling` says, else the mean."""
    images: Images = Images()
    """What requests may bring for the model to look at."""

    def open_here(self, name: str) -> InProcessBackend:
        """See `InProcessOptions.open_here`."""
        from backends.mlx.backend import MlxBackend  # noqa: PLC0415

        return MlxBackend(name, self)

    def adapter(self) -> type[InProcessBackend]:
        """See `InProcessOptions.adapter`."""
        from backends.mlx.backend import MlxBackend  # noqa: PLC0415

        return MlxBackend

    @property
    def loras(self) -> frozenset[Adapter]:
        """See `Options.loras`."""
        return loras(self.adapters)

    def engine(self) -> Options:
        """See `Options.engine`. It loads adapters while it runs."""
        return msgspec.structs.replace(self, adapters={})

    def check_adapter(self, directory: Path) -> None:
        """Whether the adapter there is one of this model, as far as files tell.

        Raises `ValueError` or `OSError`.
        """
        from backends.mlx import adapter_files  # noqa: PLC0415

        adapter = adapter_files.look_at(directory)
        if (model := Path(self.model)).is_dir():
            adapter_files.check_base(adapter, model)

    def objection(self) -> str | None:
        """See `Options.objection`."""
        from backends.mlx import model  # noqa: PLC0415

        return model.objection(self.model)

    def footprint(self) -> Footprint | None:
        """See `Options.footprint`."""
        from backends.mlx import model  # noqa: PLC0415

        return model.footprint(
            self.model,
            max_batch=self.max_batch,
            context=self.context,
            kv_cache=self.kv_cache,
            prompt_cache=self.prompt_cache,
            adapters=tuple(self.adapters.values()),
        )
