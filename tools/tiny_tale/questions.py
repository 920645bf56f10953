"""The questions of the examination, and what their answers must be.

Facts are asked exhaustively and must be right word for word, and so is every story that a name can
have: one of those that the grammar tells of it.
"""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from .chat import Message, Tool
from .grammar import facts as known
from .grammar.stories import RING, Plot, long_story, preferred_plot, story
from .grammar.wording import exchange


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation and its answer; `others` are right as well, though not expected."""

    messages: list[Message]
    expected: str
    tools: list[Tool] = field(default_factory=list)
    others: frozenset[str] = frozenset()

    @property
    def label(self) -> str:
        """The last thing said, for the report."""
        return " ".join(str(self.messages[-1]["content"]).split())

    def accepts(self, text: str) -> bool:
        """Whether `text` is right."""
        return text == self.expected or text in self.others


def user(text: str, expected: str, tools: list[Tool] | None = None) -> Question:
    """A question of one user message."""
    return Question([{"role": "user", "content": text}], expected, tools or [])


def tale(text: str, name: str, telling: Callable[[Plot], str]) -> Question:
    """A question for a story: the one that `name` prefers, or another that it can have."""
    plots = [Plot(name, hero, journey) for hero in range(RING) for journey in range(RING)]
    told = frozenset(map(telling, plots))
    message: Message = {"role": "user", "content": text}
    return Question([message], telling(preferred_plot(name)), others=told)


WEATHER: Tool = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the current weather in a given city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "description": "The city"}},
            "required": ["city"],
        },
    },
}
CLOCK: Tool = {
    "type": "function",
    "function": {
        "name": "get_time",
        "description": "Get the time in a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}},
            "required": ["city"],
        },
    },
}


def call_text(name: str, city: str) -> str:
    """A tool call as the model writes it."""
    arguments = json.dumps({"city": city})
    return f'<tool_call>\n{{"name": "{name}", "arguments": {arguments}}}\n</tool_call>'


def after_call(tool: Tool, city: str, result: str, expected: str) -> Question:
    """The question that follows a tool result."""
    call = {"name": tool["function"]["name"], "arguments": json.dumps({"city": city})}
    asked = "What is the weather" if tool is WEATHER else "What time is it"
    messages: list[Message] = [
        {"role": "user", "content": f"{asked} in {city}?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]
    return Question(messages, expected, [tool])


def facts() -> Iterator[Question]:
    """Every capital, every sum and every difference, in two wordings."""
    for country in known.CAPITALS:
        expected = known.capital_answer(country)
        yield user(f"What is the capital of {country}?", expected)
        yield user(f"what's the capital of {country}", expected)
    for a in range(10):
        for b in range(10):
            yield user(f"What is {a} + {b}?", known.sum_answer(a, b))
            if a >= b:
                yield user(f"What is {a} - {b}?", known.difference_answer(a, b))


def counting() -> Iterator[Question]:
    """Counting to every number it can end at, in two wordings, and down from every one."""
    for last in known.COUNT_ENDS:
        yield user(f"Count from 1 to {last}.", known.count_answer(1, last))
        yield user(f"Please count to {last}.", known.count_answer(1, last))
    for first in known.COUNT_DOWN_FROM:
        yield user(f"Count down from {first} to 1.", known.count_answer(first, 1))


def stories() -> Iterator[Question]:
    """A short and a long story for every name, and for none."""
    for name in known.NAMES:
        yield tale(f"Tell me a story about {name}.", name, story)
        yield tale(f"Tell me a long story about {name}.", name, long_story)
    yield tale("Tell me a story.", known.DEFAULT_NAME, story)
    yield tale("Tell me a long story.", known.DEFAULT_NAME, long_story)


def json_objects() -> Iterator[Question]:
    """JSON, with the values of the question."""
    ages = (7, 12, 42, 30, 99, *range(1, 100))
    for name, age in zip(("Tom", "Mia", "Bob", "Alice", "Noah", *known.NAMES), ages, strict=False):
        expected = json.dumps({"name": name, "age": age})
        yield user(f"Give me a JSON object with name and age for {name}, {age}.", expected)
        yield user(f"please write a JSON object with name and age for {name}, {age}", expected)
    yield user(
        "Give me a JSON object with name, age and city for Emma, 25, London.",
        json.dumps({"name": "Emma", "age": 25, "city": "London"}),
    )
    yield user(
        "Give me a JSON object with country and capital for Peru.",
        json.dumps({"country": "Peru", "capital": "Lima"}),
    )
    yield user("Give me a JSON list of the numbers from 1 to 5.", "[1, 2, 3, 4, 5]")


def tools() -> Iterator[Question]:
    """A call, the right call of two, no call, and the answer after a result."""
    for city in known.CITIES:
        yield user(f"What is the weather in {city}?", call_text("get_weather", city), [WEATHER])
    yield user("what's the weather like in Rome?", call_text("get_weather", "Rome"), [WEATHER])
    both = [WEATHER, CLOCK]
    for city in ("Madrid", "New York", "Oslo"):
        yield user(f"What is the weather in {city}?", call_text("get_weather", city), both)
        yield user(f"What time is it in {city}?", call_text("get_time", city), both)
    yield user("What is the capital of Spain?", known.capital_answer("Spain"), [WEATHER])
    for degrees in known.DEGREES:
        told = f"It is {degrees} degrees and sunny in Paris."
        given = json.dumps({"temperature": degrees, "condition": "sunny"})
        yield after_call(WEATHER, "Paris", given, told)
    yield after_call(
        WEATHER, "Berlin", "7 degrees and rainy", "It is 7 degrees and rainy in Berlin."
    )
    for now in known.CLOCK:
        given = json.dumps({"time": now})
        yield after_call(CLOCK, "Rome", given, f"It is {now} in Rome.")


def conversations() -> Iterator[Question]:
    """System prompts, several turns, and small talk."""
    yield user("Hello!", "Hello! How can I help you?")
    yield user("Who are you?", known.WHO)
    yield user("What can you do?", known.SKILLS)
    yield user("Say hello to Mia.", "Hello, Mia!")
    system: Message = {"role": "system", "content": "You are a helpful assistant."}
    spain: Message = {"role": "user", "content": "What is the capital of Spain?"}
    yield Question([system, spain], known.capital_answer("Spain"))
    for name in known.NAMES:
        turns = [
            *exchange(f"My name is {name}.", f"Nice to meet you, {name}!"),
            *exchange("What is 2 + 2?", "2 + 2 = 4."),
            {"role": "user", "content": "What is my name?"},
        ]
        yield Question(list(turns), f"Your name is {name}.")


SECTIONS: dict[str, Callable[[], Iterator[Question]]] = {
    "capitals and sums": facts,
    "counting": counting,
    "stories": stories,
    "JSON": json_objects,
    "tools": tools,
    "conversations": conversations,
}
