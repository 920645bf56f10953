"""OpenAI's `tool_choice`: which tools may be called, and whether one has to be. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import msgspec

from backends.inprocess.refusals import refuse, shown


class ToolChoice(msgspec.Struct, frozen=True):
    """What was chosen."""

    allowed: frozenset[str] | None = None
    """Names of tools; None for all there are."""
    forced: bool = False
    """One of them has to be called."""
    named: bool = False
    """Exactly one call, of the one tool that is allowed."""

    @property
    def nothing(self) -> bool:
        """No tool may be called."""
        return self.allowed is not None and not self.allowed


def read_tool_choice(choice: object, tools: Collection[str]) -> ToolChoice:
    """What `choice` says about `tools`, which are there; raises `RequestRefused`."""
    match choice:
        case None | "auto":
            return ToolChoice()
        case "none":
            return ToolChoice(frozenset())
        case "required":
            if not tools:
                refuse("tool_choice", "is 'required', but there are no tools")
            return ToolChoice(forced=True)
        case {"type": "allowed_tools", "allowed_tools": {"mode": mode, "tools": [*allowed]}}:
            if mode not in ("auto", "required") or not allowed:
                what = "needs allowed_tools with tools, and a mode that is 'auto' or 'required'"
                refuse("tool_choice", what)
            names = frozenset(_name(tool, tools) for tool in allowed)
            return ToolChoice(names, forced=mode == "required")
        case {"function": _}:
            return ToolChoice(frozenset({_name(choice, tools)}), forced=True, named=True)
    return refuse(
        "tool_choice",
        "must be 'auto', 'none', 'required', a function with its name, or allowed_tools with a "
        "mode and tools",
    )


def _name(tool: Any, tools: Collection[str]) -> str:
    match tool:
        case {"function": {"name": str(name)}}:
            if name not in tools:
                refuse("tool_choice", f"names {shown(name)}, which is none of the tools")
            return name
    return refuse(
        "tool_choice",
        "needs the name of a function: {'type': 'function', 'function': {'name': …}}",
    )
