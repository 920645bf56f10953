"""What this machine has of memory, and whether what shall be loaded fits into it.

The decisions are pure; only `machine_memory` and `process_memory` read anything.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

_CGROUP_OF_SELF = Path("/proc/self/cgroup")
_CGROUPS = Path("/sys/fs/cgroup")
_LEAVE_FIRST = (
    "What is still loaded goes with the last request that uses it: take it out of the file and put "
    "the new one in once it has gone, or start the gateway anew"
)
_STATM = Path("/proc/self/statm")
_PS_TIME = 5.0
_WORTH_TELLING = 1 << 20
_UNITS = ((1 << 40, "TiB"), (1 << 30, "GiB"), (1 << 20, "MiB"), (1 << 10, "KiB"))


class Footprint(msgspec.Struct, frozen=True, kw_only=True):
    """What an engine will take of this machine's memory, in bytes, and why."""

    name: str
    """What is loaded: a directory, a file, or a hub id."""
    weights: int
    kv_cache: int
    """For `concurrency` sequences of `context` tokens each, or for `whole` of them."""
    overhead: int
    """A margin: activations, buffers, the engine itself."""
    adapters: int = 0
    """LoRA adapters that are loaded with it."""
    prompt_cache: int = 0
    """What is kept of prompts and answers that are over, at most."""
    pictures: int = 0
    """What looking at pictures takes beside the weights: the encoder at work, and what waits."""
    estimated: bool = False
    """The KV cache of such a model cannot be told exactly from its files: `bytes_per_token` is
    rather too much than too little."""
    context: int
    """Tokens that one sequence may have."""
    concurrency: int
    """Sequences that are generated together, at most."""
    whole: int | None = None
    """For how many of them, of `context` tokens each, there is room at once; None for all."""
    kv_given: bool = False
    """The configuration says how large the KV cache is."""
    bytes_per_token: int
    """Of the KV cache."""

    @property
    def total(self) -> int:
        """All of it."""
        caches = self.kv_cache + self.prompt_cache
        return self.weights + self.adapters + caches + self.pictures + self.overhead


def machine_memory() -> int:
    """Bytes that this process may use at most: the machine's, or its cgroup's limit if lower."""
    physical = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return min([physical, *cgroup_limits(_CGROUP_OF_SELF, _CGROUPS)])


def process_memory() -> int:
    """Bytes that this process holds now; 0 where nobody tells. Blocks."""
    try:
        return int(_STATM.read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        pass  # not Linux
    command = ["ps", "-o", "rss=", "-p", str(os.getpid())]
    try:
        told = subprocess.run(  # noqa: S603 — nothing of a stranger's is in it
            command, capture_output=True, text=True, timeout=_PS_TIME, check=False
        )
        return int(told.stdout) * 1024
    except (OSError, ValueError, subprocess.TimeoutExpired):
        return 0


def cgroup_limits(of_self: Path, root: Path) -> list[int]:
    """The limits in bytes of this process's cgroup and those above it, of version 1 or 2.

    `of_self` is `/proc/self/cgroup`. No limit, and no such files, are an empty list.
    """
    limits: list[int] = []
    for line in _text(of_self).splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers:
            base, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            base, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        inside = Path(path.lstrip("/"))
        # In a container the path may be the host's, and only the root is there.
        limits += [_limit(base / part / name) for part in (inside, *inside.parents)]
    return [limit for limit in limits if limit]


def refusal(
    footprints: Mapping[str, Footprint],
    memory: int,
    leaving: Sequence[tuple[str, Footprint]] = (),
) -> str | None:
    """Why backends that take so much cannot run in `memory` bytes together; None if they can.

    `footprints` are by the backend's name. Those of backends that are `leaving` come with it: they
    are in memory until the last request that uses them is done.
    """
    wanted = sum(one.total for one in footprints.values())
    needed = wanted + sum(one.total for _, one in leaving)
    if needed <= memory:
        return None
    parts = [f"{name}: {_told(one)}" for name, one in footprints.items()]
    parts += [f"{name} as it was, still loaded: {_told(one)}" for name, one in leaving]
    if wanted <= memory:
        advice = _LEAVE_FIRST
    else:
        largest = max(footprints, key=lambda name: footprints[name].total)
        weights = sum(one.weights for one in footprints.values())
        fits = weights < memory
        advice = _advice(largest, footprints[largest], wanted - memory, weights_fit=fits)
    return (
        f"loading this needs {written(needed)} of memory, and there are {written(memory)}. "
        f"{'; '.join(parts)}. {advice}"
    )


def refusal_beside(held: int, footprints: Mapping[str, Footprint], memory: int) -> str | None:
    """The same, where `held` of `memory` is taken already: by whatever else this process runs.

    That may be more than the configuration says: after a reload a model stays until its last
    request is answered.
    """
    why = refusal(footprints, max(0, memory - held))
    if why is None or held < _WORTH_TELLING:
        return why
    return f"{why}. This process holds {written(held)} already"


def sequences(one: Footprint) -> str:
    """What the KV cache is for: `8 of 16 sequences of 512 tokens`, where 8 have room at once."""
    count = one.concurrency
    noun = "sequence" if count == 1 else "sequences"
    some = "" if one.whole is None or one.whole >= count else f"{one.whole} of "
    return f"{some}{count} {noun} of {one.context} tokens"


def written(nbytes: int) -> str:
    """An amount of memory for people: `3.4 GiB`."""
    for size, unit in _UNITS:
        if nbytes >= size:
            return f"{nbytes / size:.1f} {unit}"
    return f"{nbytes} B"


def _told(one: Footprint) -> str:
    about = "about " if one.estimated else ""
    parts = [
        f"{written(one.weights)} weights",
        *((f"{written(one.adapters)} adapters",) if one.adapters else ()),
        f"{written(one.kv_cache)} KV cache "
        f"({sequences(one)}, {about}"
        f"{written(one.bytes_per_token)} a token)",
    ]
    if one.prompt_cache:
        parts.append(f"{written(one.prompt_cache)} prompt cache")
    if one.pictures:
        parts.append(f"{written(one.pictures)} pictures")
    return " + ".join([*parts, f"{written(one.overhead)} margin"])


def _advice(name: str, one: Footprint, excess: int, *, weights_fit: bool) -> str:
    """What to change, at the largest of them."""
    if weights_fit and one.kv_given:
        keys = "`kv_cache` or `prompt_cache`" if one.prompt_cache else "`kv_cache`"
        return f"Lower {keys} of {name}: {written(excess)} are too much"
    if weights_fit:
        # llama.cpp, which has no prompt cache, has no key for the size of the KV cache either.
        caches = ", or give it a smaller `kv_cache` or `prompt_cache`" if one.prompt_cache else ""
        return f"Lower `context` or `max_batch` of {name}{caches}: {written(excess)} are too much"
    return f"Take a smaller or more strongly quantized model for {name}, or fewer models at once"


def _limit(path: Path) -> int:
    text = _text(path).strip()
    return int(text) if text.isdigit() else 0


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii")
    except (OSError, UnicodeDecodeError):
        return ""
