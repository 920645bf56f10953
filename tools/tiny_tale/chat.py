"""Conversations as text, through the very chat template that ships with the model.

The template is read by three engines with three Jinja implementations, so this module renders
it the way Hugging Face does and nothing here knows its format.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jinja2 import Template
from jinja2.sandbox import ImmutableSandboxedEnvironment

TEMPLATE_FILE = Path(__file__).with_name("chat_template.jinja")

Message = Mapping[str, Any]
"""One message in the shape of the OpenAI chat API."""

Tool = Mapping[str, Any]
"""One entry of `tools` in the shape of the OpenAI chat API."""


@cache
def template_source() -> str:
    """The Jinja source of the chat template."""
    return TEMPLATE_FILE.read_text(encoding="utf-8").rstrip("\n")


@cache
def compile_template(source: str) -> Template:
    """Compile `source` with the options and the `tojson` that Hugging Face gives a template."""
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    environment.filters["tojson"] = lambda value: json.dumps(value, ensure_ascii=False)
    return environment.from_string(source)


def render(
    messages: Sequence[Message],
    tools: Sequence[Tool] = (),
    *,
    add_generation_prompt: bool = False,
    source: str | None = None,
) -> str:
    """Render a conversation; `source` is another template than the one in this folder."""
    template = compile_template(template_source() if source is None else source)
    return template.render(
        messages=list(messages),
        tools=list(tools) or None,
        add_generation_prompt=add_generation_prompt,
    )


def turns(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Iterator[tuple[str, str]]:
    """Split a rendered conversation into (what the model reads, what it should write) pairs.

    The pairs, joined, are the rendered text of the conversation up to its last assistant message.
    """
    end = "\n"  # the template closes a message with a newline that the model need not write
    done = 0
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prompt = render(messages[:index], tools, add_generation_prompt=True)
        whole = render(messages[: index + 1], tools).removesuffix(end)
        yield prompt[done:], whole[len(prompt) :]
        done = len(whole)
