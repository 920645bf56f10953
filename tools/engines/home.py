"""Where a built engine lives, and the one rule by which it counts as built.

The rule: an engine is there when its stamp is there, and the stamp is written last, in one
rename. Whatever an interrupted build left behind has no stamp; the next build picks it up and
goes on. A lock held by the operating system makes a second build wait for the first one, and
falls with the process that held it, so no crash leaves one behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

APP = "llm-gateway"


def engines_root(environ: Mapping[str, str] = os.environ) -> Path:
    """The folder that holds every engine: `$XDG_CACHE_HOME/llm-gateway/engines`."""
    base = environ.get("XDG_CACHE_HOME", "")
    # The XDG specification has relative paths ignored: they would move with the caller.
    cache = Path(base) if os.path.isabs(base) else Path.home() / ".cache"
    return cache / APP / "engines"


def platform_tag() -> str:
    """Operating system and CPU architecture, as in `linux-x86_64`."""
    return f"{sys.platform}-{platform.machine().lower()}"


def recipe_digest(recipe: object) -> str:
    """Eight hex digits that change whenever the recipe (anything JSON can hold) does.

    They are part of a home's name: two checkouts with different recipes never share, or fight
    over, one build, and a changed pin is never answered with the engine built before it.
    """
    text = json.dumps(recipe, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:8]


@dataclass(frozen=True)
class Home:
    """The folder of one engine in one version, built by one recipe for one platform."""

    path: Path

    @property
    def work(self) -> Path:
        """What a build needs and the finished engine does not; kept until the build is done."""
        return self.path / "work"

    @property
    def log(self) -> Path:
        """Everything the build's commands printed."""
        return self.path / "build.log"

    @property
    def stamp(self) -> Path:
        """The file whose existence says that the build is complete."""
        return self.path / "complete.json"

    def is_complete(self) -> bool:
        """Whether a build ran to its end here."""
        return self.stamp.is_file()

    def mark_complete(self, facts: Mapping[str, object]) -> None:
        """Write the stamp, with what is worth knowing about the build, in one atomic step."""
        draft = self.stamp.with_suffix(".tmp")
        draft.write_text(json.dumps(facts, indent=2) + "\n")
        draft.replace(self.stamp)

    def revoke(self) -> None:
        """Take the stamp away before a finished engine is worked on again."""
        self.stamp.unlink(missing_ok=True)

    def facts(self) -> dict[str, object]:
        """What the stamp says; empty while there is none that can be read."""
        with suppress(OSError, ValueError):
            found = json.loads(self.stamp.read_text())
            if isinstance(found, dict):
                return found
        return {}

    @contextmanager
    def locked(self, on_wait: Callable[[], None]) -> Iterator[None]:
        """Hold this home alone; `on_wait` is called once if somebody else has it now."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # Beside the home and not in it, so that deleting a home never deletes a held lock.
        with self.path.with_name(self.path.name + ".lock").open("w") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                on_wait()
                fcntl.flock(lock, fcntl.LOCK_EX)
            self.path.mkdir(exist_ok=True)
            yield
