"""What an engine is to the command line and the tests: a recipe, a home and a binary."""

from __future__ import annotations

import shutil
import time
from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

from tools.engines.home import Home, engines_root, platform_tag, recipe_digest
from tools.engines.steps import Steps


class Engine(ABC):
    """One engine of one pinned version. A subclass says how it is built."""

    name: ClassVar[str]
    version: ClassVar[str]

    @abstractmethod
    def recipe(self) -> object:
        """Everything that decides what the build yields, as JSON can hold it."""

    @abstractmethod
    def binary(self, home: Home) -> Path:
        """The executable inside a home."""

    @abstractmethod
    def install(self, home: Home, steps: Steps) -> None:
        """Build into `home`, going on from whatever an interrupted build left there."""

    def unsupported(self) -> str | None:
        """Why this machine cannot have the engine at all, or None where it can."""
        return None

    def platform(self) -> str:
        """The part of the key that says what machine, or interpreter, a build is good for."""
        return platform_tag()

    @property
    def key(self) -> str:
        """The name of the home: engine, version, platform and recipe."""
        return "-".join((self.name, self.version, self.platform(), recipe_digest(self.recipe())))

    def home(self, root: Path | None = None) -> Home:
        """Where this engine lives, built or not."""
        return Home((root or engines_root()) / self.key)

    def find(self, root: Path | None = None) -> Path | None:
        """The executable of a complete build, or None."""
        home = self.home(root)
        binary = self.binary(home)
        # The stamp alone would still vouch for an engine whose files were cleaned away.
        return binary if home.is_complete() and binary.is_file() else None

    def ensure(self, steps: Steps, root: Path | None = None) -> Path:
        """Build the engine unless it is there, waiting for a build that is under way.

        Raises StepError when a command of the build fails.
        """
        if found := self.find(root):
            return found
        home = self.home(root)
        with home.locked(lambda: steps.say(f"waiting for another build of {home.path.name}")):
            if found := self.find(root):
                return found
            home.revoke()
            started = time.monotonic()
            with steps.logged_to(home.log):
                self.install(home, steps)
            shutil.rmtree(home.work, ignore_errors=True)
            seconds = round(time.monotonic() - started)
            home.mark_complete({"engine": self.name, "version": self.version, "seconds": seconds})
            return self.binary(home)
