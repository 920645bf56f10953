"""Messages of a chat, and the tools in it: which there may be, each refused by its field. Pure.

What a template or a tokenizer would trip over is refused here, with the path of the value: its own
complaint would name a line of the template.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from backends.inprocess.image_parts import is_image, read_part
from backends.inprocess.refusals import Code, missing, refuse, shown, unsupported
from backends.malformed import MALFORMED

ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})


def check_message(where: str, message: Mapping[str, Any]) -> None:
    """Refuse what no template could make sense of; `where` is the message's path.

    Raises `RequestRefused`.
    """
    role = message.get("role")
    if role is None:
        missing(f"{where}.role")
    if not isinstance(role, str) or role not in ROLES:
        names = ", ".join(sorted(ROLES))
        refuse(f"{where}.role", f"must be one of {names}, not {shown(role)}")
    content = message.get("content")
    if content is None:
        if role != "assistant":
            missing(f"{where}.content")
    elif isinstance(content, list):
        for at, part in enumerate(content):
            _check_part(f"{where}.content[{at}]", part)
    elif not isinstance(content, str):
        what = "must be a text or a list of parts"
        refuse(f"{where}.content", what, code=Code.INVALID_TYPE)
    calls = message.get("tool_calls") or []
    if not isinstance(calls, list):
        refuse(f"{where}.tool_calls", "must be a list", code=Code.INVALID_TYPE)
    for at, call in enumerate(calls):
        _check_call(f"{where}.tool_calls[{at}]", call)


def _check_part(where: str, part: object) -> None:
    if not isinstance(part, dict):
        refuse(where, "must be an object with a `type`", code=Code.INVALID_TYPE)
    if is_image(part):
        read_part(where, part)
        return
    if part.get("type") not in ("text", "input_text", "refusal"):
        unsupported(where, f"this engine takes no parts of type {shown(part.get('type'))}")
    if not isinstance(part.get("text", part.get("refusal")), str):
        missing(f"{where}.text")


def _check_call(where: str, call: object) -> None:
    arguments = check_function(where, call).get("arguments")
    if isinstance(arguments, str):
        decode_arguments(f"{where}.function.arguments", arguments)


def check_function(where: str, holder: object) -> dict[str, Any]:
    """The function of a tool, or of a call: an object with a name. Raises `RequestRefused`."""
    function = holder.get("function") if isinstance(holder, dict) else None
    if function is None:
        missing(f"{where}.function")
    if not isinstance(function, dict):
        refuse(f"{where}.function", "must be an object", code=Code.INVALID_TYPE)
    name = function.get("name")
    if name is None:
        missing(f"{where}.function.name")
    if not isinstance(name, str):
        refuse(f"{where}.function.name", "must be a text", code=Code.INVALID_TYPE)
    return function


def decode_arguments(where: str, arguments: str) -> Any:
    """The value that a tool call's `arguments` hold; an empty object for none.

    Raises `RequestRefused`.
    """
    if not arguments:
        return {}
    try:
        return json.loads(arguments)
    except (ValueError, *MALFORMED) as error:
        return refuse(where, f"is not JSON: {error}", code=Code.INVALID_JSON)
