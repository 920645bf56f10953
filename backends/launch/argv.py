"""What is run for an engine that the gateway starts: argv and environment.

Rules of this file:

- The user's arguments win: what the gateway would add is left out where they are there.
- Where and under what name an engine listens belongs to the gateway: those are refused.
- What belongs to one kind of engine is in its recipe.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence

from backends.options import LaunchableOptions

_SECRET = re.compile(r"key|token|secret|password|passwd", re.IGNORECASE)
_SHORT_SECRETS = frozenset({"-hft"})
"""Flags that are short for one that is named like a secret."""
_NO_SECRET = re.compile(r"file|path|tokenizer|tokens|token-budget", re.IGNORECASE)
MASK = "***"

_NEVER_INHERITED = ("LLAMA_API_KEY", "LLAMA_ARG_HOST", "LLAMA_ARG_PORT", "VLLM_API_KEY")
"""They would have the engine listen elsewhere, or ask the gateway for a key it does not send."""


def command_line(options: LaunchableOptions, socket: str) -> tuple[str, ...]:
    """The whole argv to listen on the Unix socket at `socket`. `options.launch` is given."""
    launch, recipe = options.launch, options.recipe()
    assert launch is not None
    name = options.model or launch.model
    command = launch.command or recipe.command
    return (command, *recipe.arguments(options, name, socket), *launch.args)


def environment(
    options: LaunchableOptions,
    inherited: Mapping[str, str],
    withheld: Collection[str] = (),
) -> dict[str, str]:
    """All variables of the engine's process: `inherited`, the gateway's own, the user's.

    Those called as in `withheld` are not inherited: they are secrets of the gateway's.
    """
    launch = options.launch
    assert launch is not None
    withheld = {*withheld, *_NEVER_INHERITED}
    kept = {name: value for name, value in inherited.items() if name not in withheld}
    own = {name: value.reveal() for name, value in launch.env.items()}
    return {**options.recipe().environment(options), **kept, **own}


def owned_arguments(options: LaunchableOptions) -> list[tuple[int, str]]:
    """Those of the user's arguments that are not theirs to set: position and flag."""
    assert options.launch is not None
    owned = options.recipe().owned
    flags = ((at, argument.partition("=")[0]) for at, argument in enumerate(options.launch.args))
    return [(at, flag) for at, flag in flags if flag.replace("_", "-") in owned]


def masked(argv: Sequence[str]) -> tuple[str, ...]:
    """`argv` as it may be shown: without the values of flags that are named like secrets.

    Whether such a flag has a value is not known: what follows it is taken for one.
    """
    shown, hide = [], False
    for argument in argv:
        flag, equals, _ = argument.partition("=")
        secret = flag.startswith("-") and _names_a_secret(flag)
        if hide:
            shown.append(MASK)
        else:
            shown.append(f"{flag}={MASK}" if secret and equals else argument)
        hide = secret and not equals
    return tuple(shown)


def secrets_of(options: LaunchableOptions) -> tuple[str, ...]:
    """Texts that must not stand in a log, the longest first; short ones would be found anywhere."""
    assert options.launch is not None
    args = options.launch.args
    hidden = [
        one.rpartition("=")[2]
        for one, shown in zip(args, masked(args), strict=True)
        if one != shown
    ]
    every = {value.reveal() for value in options.launch.env.values()}.union(hidden)
    return tuple(sorted((one for one in every if len(one) >= 8), key=len, reverse=True))


def _names_a_secret(flag: str) -> bool:
    named = _SECRET.search(flag) and not _NO_SECRET.search(flag)
    return bool(named) or flag in _SHORT_SECRETS
