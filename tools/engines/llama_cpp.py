"""llama.cpp, compiled from the tree inside the llama-cpp-python source archive.

No package registry has it built for Linux, but that archive holds the whole tree, its server
included. CMake and Ninja come as wheels, so a machine needs no more than a C++ compiler.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import tarfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tools.engines.steps import StepError, Steps

VERSION = "0.3.36"
"""Of llama-cpp-python."""
SDIST_SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
BUILD_TOOLS = ("cmake==4.4.4", "ninja==1.13.2")

OPTIONS: dict[str, str] = {
    "CMAKE_BUILD_TYPE": "Release",
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
"""What every build of it has in common."""


@dataclass(frozen=True)
class SourceTree:
    """The unpacked archive, and the tools that build it."""

    package: Path
    """llama-cpp-python's own folder."""
    bin_dir: Path
    """The build environment's executables."""

    @property
    def environ(self) -> dict[str, str]:
        """Ninja is found by PATH: CMake remembers the path it saw, so resuming needs the same."""
        return {"PATH": f"{self.bin_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}

    def compile(self, tree: Path, options: Mapping[str, str], target: str, steps: Steps) -> None:
        """Build `target` in `tree`; objects that are there already are not compiled again."""
        source = self.package / "vendor" / "llama.cpp"
        defines = [f"-D{name}={value}" for name, value in options.items()]
        steps.run(
            "configuring",
            [self.bin_dir / "cmake", "-S", source, "-B", tree, "-G", "Ninja", *defines],
            env=self.environ,
            hint="a C++ compiler is needed: g++ or clang++",
        )
        steps.run(
            "compiling",
            # Not through `cmake --build`: ended on its own it would leave Ninja running.
            [self.bin_dir / "ninja", "-C", tree, "-j", str(os.cpu_count() or 1), target],
            env=self.environ,
            hint="run the build again to go on where it stopped",
        )


def prepare(work: Path, steps: Steps, *, tools: tuple[str, ...] = BUILD_TOOLS) -> SourceTree:
    """The source below `work`, and an environment with `tools`; what is there is kept."""
    work.mkdir(exist_ok=True)
    bin_dir = _build_tools(work / "venv", tools, steps)
    unpacked = work / "source"
    if not unpacked.is_dir():
        archive = _archive(work / "download", bin_dir / "python", steps)
        draft = work / "source.tmp"
        shutil.rmtree(draft, ignore_errors=True)
        steps.say("unpacking the source")
        with tarfile.open(archive) as tar:
            tar.extractall(draft, filter="data")
        (top,) = draft.iterdir()
        top.rename(unpacked)
        draft.rmdir()
    return SourceTree(unpacked, bin_dir)


def _build_tools(venv: Path, tools: tuple[str, ...], steps: Steps) -> Path:
    """Make the environment that has CMake and Ninja; returns its folder of executables."""
    bin_dir = venv / "bin"
    if not (bin_dir / "pip").exists():
        steps.run("making a build environment", [sys.executable, "-m", "venv", "--clear", venv])
    steps.run(
        "installing cmake and ninja",
        [bin_dir / "python", "-m", "pip", "install", "--no-input", *tools],
    )
    return bin_dir


def _archive(folder: Path, python: Path, steps: Steps) -> Path:
    archive = folder / f"llama_cpp_python-{VERSION}.tar.gz"
    if not archive.is_file():
        download: list[str | Path] = [python, "-m", "pip", "download", "--no-input", "--no-deps"]
        what = ["--no-binary", "llama-cpp-python", f"llama-cpp-python=={VERSION}"]
        steps.run("downloading the source", [*download, "--dest", folder, *what])
    with archive.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != SDIST_SHA256:
        archive.unlink()
        raise StepError("checking the source", f"sha256 is {digest}", archive, ())
    return archive
