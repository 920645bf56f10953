"""Where the gateway's time goes: samples of its stack, taken by CPU time.

Run as `python -m bench.profiling OUT MODULE ARGUMENTS…`: no switch in the product. A tracing
profiler would charge every call of a small function, and a wall clock would charge whatever else
runs to the system call that gave way to it; SIGPROF does neither. Time inside C is charged to the
Python function that called it.
"""

from __future__ import annotations

import runpy
import signal
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from types import FrameType

import msgspec

from bench.cases import Case

_INTERVAL = 0.001
_SHOWN = 25
_FOLDERS = 15


class Profile(msgspec.Struct):
    """Samples by function: with it on top of the stack, and with it anywhere on the stack."""

    own: dict[str, int]
    total: dict[str, int]


def profiled(command: Sequence[str], into: Path) -> list[str]:
    """`command`, which must be `python -m …`, run under the profiler."""
    python, dash_m, *rest = command
    if dash_m != "-m":
        raise ValueError("only `python -m …` can be profiled")
    return [python, "-m", "bench.profiling", str(into), *rest]


def tell_profile(path: Path, case: Case, cpu_us: float) -> None:
    """Print the functions with most time of their own, and remove the file.

    `cpu_us` is what a unit cost: the samples are shares of it.
    """
    profile = msgspec.json.decode(path.read_bytes(), type=Profile)
    path.unlink()
    samples = sum(profile.own.values()) or 1
    print(f"\n{case.name}: own us, total us per {case.unit} ({samples} samples)", file=sys.stderr)
    for function, own in Counter(profile.own).most_common(_SHOWN):
        total = profile.total[function]
        shares = f"{own / samples * cpu_us:8.2f} {total / samples * cpu_us:8.2f}"
        print(f"{shares}  {function}", file=sys.stderr)
    folders: Counter[str] = Counter()
    for function, own in profile.own.items():
        folders[function.partition("/")[0]] += own
    print(f"own us per {case.unit} by folder:", file=sys.stderr)
    for folder, own in folders.most_common(_FOLDERS):
        print(f"{own / samples * cpu_us:8.2f}  {folder}", file=sys.stderr)


class _Sampler:
    def __init__(self) -> None:
        self.own: Counter[str] = Counter()
        self.total: Counter[str] = Counter()

    def sample(self, _signal: int, frame: FrameType | None) -> None:
        names = []
        while frame is not None:
            names.append(frame.f_code)
            frame = frame.f_back
        # Startup is not what is asked about: imports are left out.
        if any("importlib" in code.co_filename for code in names):
            return
        self.own[_name(names[0].co_filename, names[0].co_qualname)] += 1
        self.total.update({_name(code.co_filename, code.co_qualname) for code in names})


def _name(file: str, function: str) -> str:
    return f"{'/'.join(Path(file).parts[-2:])} {function}"


def _main(into: str, module: str, *arguments: str) -> None:
    sys.argv = [module, *arguments]
    sampler = _Sampler()
    signal.signal(signal.SIGPROF, sampler.sample)
    signal.setitimer(signal.ITIMER_PROF, _INTERVAL, _INTERVAL)
    try:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        Path(into).write_bytes(msgspec.json.encode(Profile(sampler.own, sampler.total)))


if __name__ == "__main__":
    _main(*sys.argv[1:])
