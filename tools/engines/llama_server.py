"""llama-server, compiled from the llama.cpp tree inside the llama-cpp-python source archive.

No package registry has it built for Linux, but that archive holds the whole tree with its
server. CMake and Ninja come as wheels, so a machine needs no more than a C++ compiler.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
from pathlib import Path
from typing import ClassVar

from tools.engines.engine import Engine
from tools.engines.home import Home
from tools.engines.steps import StepError, Steps

SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
BUILD_TOOLS = ("cmake==4.4.4", "ninja==1.13.2")

OPTIONS: dict[str, str] = {
    "CMAKE_BUILD_TYPE": "Release",
    "BUILD_SHARED_LIBS": "OFF",
    "LLAMA_BUILD_TOOLS": "ON",
    "LLAMA_BUILD_SERVER": "ON",
    "LLAMA_BUILD_TESTS": "OFF",
    "LLAMA_BUILD_EXAMPLES": "OFF",
    "LLAMA_BUILD_APP": "OFF",
    "LLAMA_BUILD_UI": "OFF",
    # Would download the web page's files from a model hub while configuring.
    "LLAMA_USE_PREBUILT_UI": "OFF",
    # Replicas listen on the loopback only and load models from disk: no TLS to link.
    "LLAMA_OPENSSL": "OFF",
    "LLAMA_ALL_WARNINGS": "OFF",
    # Taken from whatever git repository lies above the cache if it is not given.
    "LLAMA_BUILD_COMMIT": "sdist",
    "LLAMA_BUILD_NUMBER": "0",
    # -march=native would tie the cache, and the last bits of every logit, to the very CPU it
    # was built on: a home directory or a CI image that moves would crash or answer otherwise.
    "GGML_NATIVE": "OFF",
    # llama.cpp has a thread pool of its own; without OpenMP the binary needs no libgomp.
    "GGML_OPENMP": "OFF",
    "GGML_CCACHE": "OFF",
}


class LlamaServer(Engine):
    """llama.cpp's HTTP server."""

    name: ClassVar[str] = "llama-server"
    version: ClassVar[str] = "0.3.36"

    def recipe(self) -> object:
        """The very archive and the way it is configured."""
        return {"sdist": SDIST_SHA256, "options": OPTIONS}

    def binary(self, home: Home) -> Path:
        """The one file that is kept: it is linked statically."""
        return home.path / "bin" / "llama-server"

    def install(self, home: Home, steps: Steps) -> None:
        """Compile it; objects that an interrupted build finished are not compiled again."""
        work = home.work
        work.mkdir(exist_ok=True)
        bin_dir = self._build_tools(work / "venv", steps)
        source = self._source(work, bin_dir / "python", steps)
        tree = work / "build"
        # Ninja is found by PATH: CMake remembers the path it saw, so resuming needs the same.
        env = {"PATH": f"{bin_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
        options = [f"-D{name}={value}" for name, value in OPTIONS.items()]
        steps.run(
            "configuring",
            [bin_dir / "cmake", "-S", source, "-B", tree, "-G", "Ninja", *options],
            env=env,
            hint="a C++ compiler is needed: g++ or clang++",
        )
        steps.run(
            "compiling",
            # Not through `cmake --build`: ended on its own it would leave Ninja running.
            [bin_dir / "ninja", "-C", tree, "-j", str(os.cpu_count() or 1), self.name],
            env=env,
            hint="run the build again to go on where it stopped",
        )
        self._place(tree / "bin" / self.name, self.binary(home), steps)

    def _build_tools(self, venv: Path, steps: Steps) -> Path:
        """Make the environment that has CMake and Ninja; returns its folder of executables."""
        bin_dir = venv / "bin"
        if not (bin_dir / "pip").exists():
            steps.run("making a build environment", [sys.executable, "-m", "venv", "--clear", venv])
        steps.run(
            "installing cmake and ninja",
            [bin_dir / "python", "-m", "pip", "install", "--no-input", *BUILD_TOOLS],
        )
        return bin_dir

    def _source(self, work: Path, python: Path, steps: Steps) -> Path:
        """Download and unpack the source archive unless an earlier build did; returns the tree."""
        unpacked = work / "source"
        if not unpacked.is_dir():
            archive = self._archive(work / "download", python, steps)
            draft = work / "source.tmp"
            shutil.rmtree(draft, ignore_errors=True)
            steps.say("unpacking the source")
            with tarfile.open(archive) as tar:
                tar.extractall(draft, filter="data")
            (top,) = draft.iterdir()
            top.rename(unpacked)
            draft.rmdir()
        return unpacked / "vendor" / "llama.cpp"

    def _archive(self, folder: Path, python: Path, steps: Steps) -> Path:
        archive = folder / f"llama_cpp_python-{self.version}.tar.gz"
        if not archive.is_file():
            download: list[str | Path] = [
                python,
                "-m",
                "pip",
                "download",
                "--no-input",
                "--no-deps",
            ]
            what = ["--no-binary", "llama-cpp-python", f"llama-cpp-python=={self.version}"]
            steps.run("downloading the source", [*download, "--dest", folder, *what])
        with archive.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if digest != SDIST_SHA256:
            archive.unlink()
            raise StepError("checking the source", f"sha256 is {digest}", archive, ())
        return archive

    def _place(self, built: Path, binary: Path, steps: Steps) -> None:
        """Put the executable where it belongs, without its symbols, once it has run."""
        draft = binary.with_suffix(".tmp")
        draft.parent.mkdir(exist_ok=True)
        shutil.copy2(built, draft)
        if strip := shutil.which("strip"):
            steps.run("stripping symbols", [strip, draft])
        steps.run("checking that it runs", [draft, "--version"])
        draft.replace(binary)
