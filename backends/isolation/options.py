"""An in-process engine as one that is launched: what the owners of child processes need to know."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, cast

import msgspec

from backends.openai_http import OpenAIHttpBackend
from backends.options import BackendOptions, InProcessOptions, Launch, LaunchableOptions
from backends.units import Size

if TYPE_CHECKING:
    from backends.launch.recipes import Recipe


class IsolatedOptions(LaunchableOptions, frozen=True, kw_only=True, tag="isolated"):
    """Made of an in-process engine's options; no configuration says it."""

    inner: InProcessOptions
    """What the child shall open."""

    @classmethod
    def of(cls, engine: InProcessOptions) -> IsolatedOptions:
        """The child for `engine`, watched as `engine` wants it."""
        launch = Launch(
            model=engine.model,
            memory=_planned(engine),
            start_timeout=engine.start_timeout,
            stall_timeout=engine.stall_timeout,
        )
        # The gateway has it load adapters: those of today may be gone when it is started again.
        here = cast(InProcessOptions, engine.engine())
        here = msgspec.structs.replace(here, isolation="thread")
        return cls(inner=here, model=engine.model, launch=launch)

    def connect(self, name: str) -> OpenAIHttpBackend:
        """See `LaunchableOptions.connect`."""
        from backends.isolation.adapter import IsolatedAdapter  # noqa: PLC0415

        return IsolatedAdapter(name, self)

    def recipe(self) -> Recipe:
        """See `LaunchableOptions.recipe`: this very Python."""
        from backends.launch.recipes import Recipe  # noqa: PLC0415

        return Recipe(
            command=sys.executable,
            owned=frozenset(),
            arguments=lambda _options, _name, socket: (
                *("-m", "backends.isolation.child"),
                *(socket, write_options(self.inner)),
            ),
            environment=lambda _options: {},
        )


def _planned(engine: InProcessOptions) -> Size | None:
    """What it is planned to take of `memory_limit`; measured where its files do not tell."""
    try:
        footprint = engine.footprint()
    except (ValueError, OSError):
        return None  # the child says what is wrong with them
    return None if footprint is None else Size(footprint.total)


def write_options(options: InProcessOptions) -> str:
    """What a child shall open, as an argument."""
    return msgspec.json.encode(options, enc_hook=_number).decode()


def read_options(argument: str) -> InProcessOptions:
    """What `write_options` wrote. Raises `msgspec.ValidationError`."""
    options = msgspec.json.decode(argument, type=BackendOptions, dec_hook=_unit)
    assert isinstance(options, InProcessOptions), "only those have a child"
    return options


def _number(value: object) -> int | float:
    """A size or a duration, which is a number with a type of its own."""
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value)
    raise NotImplementedError(f"no JSON for {type(value).__name__}")


def _unit(kind: type, value: object) -> object:
    return kind(value)
