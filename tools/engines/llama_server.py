"""llama-server: one static executable."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import ClassVar

from tools.engines import llama_cpp
from tools.engines.engine import Engine
from tools.engines.home import Home
from tools.engines.steps import Steps

OPTIONS: dict[str, str] = {
    **llama_cpp.OPTIONS,
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "ON",
}


class LlamaServer(Engine):
    """llama.cpp's HTTP server."""

    name: ClassVar[str] = "llama-server"
    version: ClassVar[str] = llama_cpp.VERSION

    def recipe(self) -> object:
        """The very archive and the way it is configured."""
        return {"sdist": llama_cpp.SDIST_SHA256, "options": OPTIONS}

    def binary(self, home: Home) -> Path:
        """The one file that is kept: it is linked statically."""
        return home.path / "bin" / "llama-server"

    def install(self, home: Home, steps: Steps) -> None:
        """Compile it; objects that an interrupted build finished are not compiled again."""
        source = llama_cpp.prepare(home.work, steps)
        tree = home.work / "build"
        source.compile(tree, OPTIONS, self.name, steps)
        self._place(tree / "bin" / self.name, self.binary(home), steps)

    def _place(self, built: Path, binary: Path, steps: Steps) -> None:
        """Put the executable where it belongs, without its symbols, once it has run."""
        draft = binary.with_suffix(".tmp")
        draft.parent.mkdir(exist_ok=True)
        shutil.copy2(built, draft)
        if strip := shutil.which("strip"):
            steps.run("stripping symbols", [strip, draft])
        steps.run("checking that it runs", [draft, "--version"])
        draft.replace(binary)
