"""llama-cpp-python as a wheel: what `use: llama_cpp` imports.

The registry has it as source only. The libraries are compiled apart, by Ninja, so that a build
that was interrupted goes on where it was; packing them into a wheel takes a second.
"""

from __future__ import annotations

import shutil
import sys
import zipfile
from pathlib import Path
from typing import ClassVar

from tools.engines import llama_cpp
from tools.engines.engine import Engine
from tools.engines.home import Home
from tools.engines.steps import StepError, Steps

BACKEND = "scikit-build-core==1.1.2"
LIBRARY_SUFFIXES = {".so", ".dylib"}

OPTIONS: dict[str, str] = {
    **llama_cpp.OPTIONS,
    "BUILD_SHARED_LIBS": "ON",
    "LLAMA_BUILD_COMMON": "OFF",
    "LLAMA_BUILD_TOOLS": "OFF",
    # The libraries look for each other where they lie, wherever the wheel gets unpacked …
    "CMAKE_BUILD_WITH_INSTALL_RPATH": "ON",
    "CMAKE_INSTALL_RPATH": "@loader_path" if sys.platform == "darwin" else "$ORIGIN",
    # … under one name each: a wheel holds no links, and would have every library three times.
    "CMAKE_PLATFORM_NO_VERSIONED_SONAME": "ON",
}


class LlamaCppPython(Engine):
    """llama.cpp's library with its Python binding."""

    name: ClassVar[str] = "llama-cpp-python"
    version: ClassVar[str] = llama_cpp.VERSION

    def recipe(self) -> object:
        """The very archive, the way it is configured, and what packs it."""
        return {"sdist": llama_cpp.SDIST_SHA256, "options": OPTIONS, "backend": BACKEND}

    def binary(self, home: Home) -> Path:
        """The wheel, good for every Python 3 of this platform; its name says which that is."""
        return next(home.path.glob("*.whl"), home.path / "llama_cpp_python.whl")

    def install(self, home: Home, steps: Steps) -> None:
        """Compile the libraries and pack them; finished objects are not compiled again."""
        work = home.work
        source = llama_cpp.prepare(work, steps, tools=(*llama_cpp.BUILD_TOOLS, BACKEND))
        tree = work / "build"
        source.compile(tree, OPTIONS, "llama", steps)
        self._take_libraries(tree / "bin", source.package / "llama_cpp" / "lib", steps)
        packed = work / "wheel"
        shutil.rmtree(packed, ignore_errors=True)
        pip: list[str | Path] = [source.bin_dir / "python", "-m", "pip", "wheel", "--no-input"]
        settings = ["cmake.define.LLAMA_BUILD=OFF", "sdist.include=llama_cpp/lib/*"]
        steps.run(
            "packing",
            [
                *pip,
                *("--no-deps", "--no-index", "--no-build-isolation", "--wheel-dir", packed),
                *(f"--config-settings={setting}" for setting in settings),
                source.package,
            ],
            env=source.environ,
        )
        (wheel,) = packed.glob("*.whl")
        self._check(wheel, steps)
        wheel.replace(home.path / wheel.name)

    def _take_libraries(self, built: Path, folder: Path, steps: Steps) -> None:
        """Put the libraries where the Python package looks for them, without their symbols."""
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        strip = shutil.which("strip") if sys.platform == "linux" else None
        for library in built.iterdir():
            if library.suffix in LIBRARY_SUFFIXES and not library.is_symlink():
                placed = Path(shutil.copy2(library, folder))
                if strip:
                    steps.run(f"stripping {library.name}", [strip, "--strip-unneeded", placed])

    def _check(self, wheel: Path, steps: Steps) -> None:
        """A wheel without its libraries would be made without a word."""
        with zipfile.ZipFile(wheel) as content:
            libraries = [name for name in content.namelist() if name.startswith("llama_cpp/lib/")]
        if not any("llama" in Path(name).name for name in libraries):
            raise StepError("checking the wheel", f"it holds {libraries}", wheel, ())
        steps.say(f"packed {', '.join(sorted(Path(name).name for name in libraries))}")
