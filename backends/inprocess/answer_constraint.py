"""What a request holds its answer to: `response_format`, tools that must be called. Pure."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from backends.inprocess import harmony
from backends.inprocess.constraint import (
    ANY_OBJECT,
    MAX_SCHEMA,
    CallShape,
    Constraint,
    Thinking,
    Value,
    checked_schema,
    uncompilable,
)
from backends.inprocess.params import Chat, Completion
from backends.inprocess.refusals import unsupported
from backends.inprocess.tool_call_formats import ToolFormat
from backends.inprocess.tool_choice import ToolChoice


def constraint_of(
    params: Chat | Completion, tool_format: ToolFormat | None, thinking: Thinking | None = None
) -> Constraint | None:
    """None where the model may write what it likes.

    `tool_format` is how the model writes calls, `thinking` what may come before its answer. Raises
    `RequestRefused` for what a model of that format cannot be held to.
    """
    answer = params.response_format.answer if params.response_format else None
    if isinstance(params, Chat) and params.may_call:
        constraint = _with_tools(params, answer, tool_format)
    elif answer is not None:
        constraint = Constraint(answer=answer)
    else:
        constraint = _without_calls(params, tool_format, thinking)
    if constraint is None:
        return None
    _check_sizes(constraint)
    if thinking is None:
        return constraint
    return msgspec.structs.replace(constraint, thinking=thinking)


def _check_sizes(constraint: Constraint) -> None:
    """Refuse schemas that are too much together, at the first one that does not fit."""
    size = 0
    for value in (constraint.answer, *constraint.calls):
        size += len(value.schema) if value is not None else 0  # it is ASCII
        if value is not None and size > MAX_SCHEMA:
            raise uncompilable(
                value.param,
                f"with those before it, the schemas of this request have {size} bytes in ASCII, "
                f"and at most {MAX_SCHEMA} are taken",
            )


def _with_tools(
    params: Chat, answer: Value | None, tool_format: ToolFormat | None
) -> Constraint | None:
    choice = params.choice
    one_call = choice.named or params.parallel_tool_calls is False
    strict = any(tool["function"].get("strict") for tool in params.tools or ())
    if not (choice.forced or choice.allowed or one_call or strict or answer):
        return None
    shape = tool_format.shape if tool_format is not None else None
    text = not choice.forced and answer is None
    if shape is None or (text and not shape.mark):
        _refuse_without_shape(params, choice, answer)
        return None
    return Constraint(
        text=text,
        answer=None if choice.forced else answer,
        calls=tuple(_calls(params, choice, shape)),
        mark=shape.mark,
        separator=shape.separator,
        several=not one_call,
    )


def _without_calls(
    params: Chat | Completion, tool_format: ToolFormat | None, thinking: Thinking | None
) -> Constraint | None:
    """What `tool_choice: none` comes to: text in which no call begins.

    The model reads of its tools all the same, as OpenAI's do: without them the prompt would be
    another one from its beginning, and earlier calls in it without sense.
    """
    if not isinstance(params, Chat) or not params.tools or tool_format is None:
        return None
    # Bare calls look like any JSON; and Harmony has no text outside of its messages.
    in_messages = thinking is not None and thinking.start == harmony.THOUGHT
    if tool_format.bare or not tool_format.start or in_messages or params.ignore_eos:
        return None
    return Constraint(text=True, mark=tool_format.start)


def _refuse_without_shape(params: Chat, choice: ToolChoice, answer: Value | None) -> None:
    """Only what `strict` asks for is passed over: clients set it without being asked."""
    why = "this model writes tool calls in a form that it cannot be held to"
    if choice.forced or choice.allowed:
        unsupported("tool_choice", f"{why}; it may be 'auto' or 'none'")
    if params.parallel_tool_calls is False:
        unsupported("parallel_tool_calls", f"{why}; leave it out")
    if answer is not None:
        unsupported("response_format", f"{why}; leave either it or `tools` out")


def _calls(params: Chat, choice: ToolChoice, shape: CallShape) -> Iterator[Value]:
    for at, tool in enumerate(params.tools or ()):
        function = tool["function"]
        name = function["name"]
        if choice.allowed is not None and name not in choice.allowed:
            continue
        param = f"tools[{at}].function.parameters"
        given = function.get("parameters")
        schema = (
            ANY_OBJECT
            if given is None or given == {}
            else checked_schema(msgspec.Raw(msgspec.json.encode(given)), param)
        )
        yield shape.call(name, schema, param, lenient=not function.get("strict"))
