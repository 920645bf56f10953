"""The chat template that a GGUF file brings: a Jinja program of its makers, run in a sandbox.

What a template may use is what Hugging Face's transformers offers it (`chat_template_utils`),
because that is what templates are written for.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, NoReturn

import jinja2
import jinja2.ext
import jinja2.nodes
import jinja2.parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

_OPEN_END = "\ue000here the answer goes on\ue001"
"""Marks where the last message ends: two characters of Unicode's private use, and words."""


class ChatTemplate:
    """A compiled template; raises `jinja2.TemplateError` for what is none."""

    def __init__(self, source: str, *, bos_token: str, eos_token: str) -> None:
        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, jinja2.ext.loopcontrols]
        )
        environment.filters["tojson"] = _tojson
        environment.globals["raise_exception"] = _raise_exception
        environment.globals["strftime_now"] = _strftime_now
        self._template = environment.from_string(source)
        self._tokens = {"bos_token": bos_token, "eos_token": eos_token}

    def render(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        tools: Sequence[Mapping[str, Any]] | None = None,
        add_generation_prompt: bool = True,
        continue_final_message: bool = False,
        variables: Mapping[str, Any] | None = None,
    ) -> str:
        """The prompt as text. A template is a program: it may raise anything."""
        if continue_final_message:
            messages = [*messages[:-1], _open_ended(messages[-1])]
        text = self._template.render(
            {
                **(variables or {}),
                **self._tokens,
                "messages": messages,
                "tools": tools,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
            }
        )
        return _cut_at_open_end(text) if continue_final_message else text


def _open_ended(message: Mapping[str, Any]) -> dict[str, Any]:
    """The message with a mark behind its content."""
    content = message["content"]
    if isinstance(content, str):
        return {**message, "content": content + _OPEN_END}
    *parts, last = content
    return {**message, "content": [*parts, {**last, "text": last["text"] + _OPEN_END}]}


def _cut_at_open_end(text: str) -> str:
    """All up to the mark: what a template writes behind a whole message is cut off."""
    at = text.rfind(_OPEN_END)
    if at < 0:
        raise ValueError("the template leaves out, or changes, the message to be continued")
    return text[:at]


class _Generation(jinja2.ext.Extension):
    """`{% generation %}` marks what the assistant says, for training: its content stays."""

    tags = {"generation"}  # noqa: RUF012 — as Jinja declares it

    def parse(self, parser: jinja2.parser.Parser) -> list[jinja2.nodes.Node]:
        """The nodes between the two tags."""
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    """JSON without Jinja's escapes for HTML, which no model was trained on."""
    return json.dumps(
        value,
        ensure_ascii=ensure_ascii,
        indent=indent,
        separators=separators,
        sort_keys=sort_keys,
    )


def _raise_exception(message: str) -> NoReturn:
    raise jinja2.TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().astimezone().strftime(form)
