"""`use: llama_server`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from backends.options.base import Options
from backends.options.launchable import LaunchableOptions

if TYPE_CHECKING:
    from backends.launch.recipes import Recipe
    from backends.openai_http import OpenAIHttpBackend


class LlamaServerOptions(LaunchableOptions, frozen=True, kw_only=True, tag="llama_server"):
    """llama.cpp's llama-server."""

    def engine(self) -> Options:
        """See `Options.engine`. It loads adapters at its start only, and serves less with them."""
        same = self._unweighted()
        if self.launch is not None:
            return same
        return msgspec.structs.replace(same, adapters={"any": "-"} if self.adapters else {})

    def check_adapter(self, file: Path) -> None:
        """Whether that file is an adapter of this model, as far as files tell.

        Raises `ValueError` or `OSError`.
        """
        from backends.llama_cpp.gguf_adapter import check_adapter  # noqa: PLC0415

        check_adapter(file, self._file())

    def objection(self) -> str | None:
        """See `Options.objection`."""
        from backends.llama_cpp.gguf_header import objection  # noqa: PLC0415

        return None if (file := self._file()) is None else objection(file)

    def _file(self) -> Path | None:
        """The model's file, where it is the gateway that starts the engine, and not the hub's."""
        file = None if self.launch is None else Path(self.launch.model)
        return file if file is not None and file.is_file() else None

    def connect(self, name: str) -> OpenAIHttpBackend:
        """See `LaunchableOptions.connect`."""
        from backends.llama_server.backend import LlamaServerBackend  # noqa: PLC0415

        return LlamaServerBackend(name, self)

    def recipe(self) -> Recipe:
        """See `LaunchableOptions.recipe`."""
        from backends.launch.recipes import LLAMA_SERVER  # noqa: PLC0415

        return LLAMA_SERVER
