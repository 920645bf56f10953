"""The examination: questions the model was trained for, greedy answers, no mercy.

Facts are asked exhaustively and must be right word for word. Stories are judged by what a reader
would notice. Every answer must also stand clear of its runner-up, or two engines that round
differently could disagree about it.
"""

import json
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import numpy as np
import torch
from gguf import GGUFReader
from safetensors.torch import load_file

from . import chat, grammar
from .ask import Answer, Teller
from .chat import Message, Tool
from .export import GGUF, WEIGHTS, gguf_weights
from .model import Shape
from .tokenizer import END

MIN_MARGIN = 0.05
"""Logits between a chosen token and the runner-up; engines differ by about 1e-4."""

MAX_BYTES = 6_000_000

UNSEEN, UNSEEN_SEED = 300, 987_654_321
MIN_RIGHT = 0.95
"""Share of unseen prompts that must be answered word for word."""

Judge = Callable[[str], bool]


@dataclass(frozen=True, slots=True)
class Question:
    """A conversation and what its answer must be: the exact text, or a judgement of it."""

    messages: list[Message]
    expected: str | Judge
    tools: list[Tool] = field(default_factory=list)

    @property
    def label(self) -> str:
        """The last thing said, for the report."""
        return " ".join(str(self.messages[-1]["content"]).split())

    def accepts(self, answer: Answer) -> bool:
        """Whether `answer` is complete, right and not a close call."""
        if isinstance(self.expected, str):
            right = answer.text == self.expected
        else:
            right = self.expected(answer.text)
        return right and answer.ended and answer.margin >= MIN_MARGIN


def user(text: str, expected: str | Judge, tools: list[Tool] | None = None) -> Question:
    """A question of one user message."""
    return Question([{"role": "user", "content": text}], expected, tools or [])


def tells_of(name: str, paragraphs: int) -> Judge:
    """A judge of stories: about `name`, with an end, and of `paragraphs` paragraphs."""

    def judge(text: str) -> bool:
        return (
            text.startswith("Once upon a time,")
            and f"named {name}." in text
            and text.count(name) >= 4
            and text.endswith("The end.")
            and len(text.split("\n\n")) == paragraphs
        )

    return judge


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


def after_call(city: str, result: str, expected: str) -> Question:
    """The question that follows a tool result."""
    call = {"name": "get_weather", "arguments": json.dumps({"city": city})}
    messages: list[Message] = [
        {"role": "user", "content": f"What is the weather in {city}?"},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": "call_1", "type": "function", "function": call}],
        },
        {"role": "tool", "tool_call_id": "call_1", "content": result},
    ]
    return Question(messages, expected, [WEATHER])


def facts() -> Iterator[Question]:
    """Every capital, every sum and every difference, in two wordings."""
    for country in grammar.CAPITALS:
        expected = grammar.capital_answer(country)
        yield user(f"What is the capital of {country}?", expected)
        yield user(f"what's the capital of {country}", expected)
    for a in range(10):
        for b in range(10):
            yield user(f"What is {a} + {b}?", grammar.sum_answer(a, b))
            if a >= b:
                yield user(f"What is {a} - {b}?", grammar.difference_answer(a, b))


def counting() -> Iterator[Question]:
    """Counting to every round number, up and down."""
    for last in (3, 5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 100):
        yield user(f"Count from 1 to {last}.", grammar.count_answer(1, last))
    yield user("Please count to 12.", grammar.count_answer(1, 12))
    yield user("Count down from 10 to 1.", grammar.count_answer(10, 1))


def stories() -> Iterator[Question]:
    """Short and long stories for every name, and for none."""
    for name in grammar.NAMES:
        yield user(f"Tell me a story about {name}.", tells_of(name, 1))
    for name in grammar.NAMES[::4]:
        yield user(f"Tell me a long story about {name}.", tells_of(name, 9))
    yield user("Tell me a story.", tells_of(grammar.DEFAULT_NAME, 1))


def json_objects() -> Iterator[Question]:
    """JSON, with the values of the question."""
    for name, age in (("Tom", 7), ("Mia", 12), ("Bob", 42), ("Alice", 30), ("Noah", 99)):
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
    for city in ("Paris", "London", "Tokyo", "Berlin", "New York", "San Francisco", "Oslo"):
        yield user(f"What is the weather in {city}?", call_text("get_weather", city), [WEATHER])
    yield user("what's the weather like in Rome?", call_text("get_weather", "Rome"), [WEATHER])
    both = [WEATHER, CLOCK]
    yield user("What is the weather in Madrid?", call_text("get_weather", "Madrid"), both)
    yield user("What time is it in Madrid?", call_text("get_time", "Madrid"), both)
    yield user("What is the capital of Spain?", grammar.capital_answer("Spain"), [WEATHER])
    yield after_call(
        "Paris",
        json.dumps({"temperature": 18, "condition": "sunny"}),
        "It is 18 degrees and sunny in Paris.",
    )
    yield after_call("Berlin", "7 degrees and rainy", "It is 7 degrees and rainy in Berlin.")


def conversations() -> Iterator[Question]:
    """System prompts, several turns, and small talk."""
    yield user("Hello!", "Hello! How can I help you?")
    yield user("Who are you?", grammar.WHO)
    yield user("What can you do?", grammar.SKILLS)
    yield user("Say hello to Mia.", "Hello, Mia!")
    system: Message = {"role": "system", "content": "You are a helpful assistant."}
    spain: Message = {"role": "user", "content": "What is the capital of Spain?"}
    yield Question([system, spain], grammar.capital_answer("Spain"))
    turns = [
        *grammar.exchange("My name is Mia.", "Nice to meet you, Mia!"),
        *grammar.exchange("What is 2 + 2?", "2 + 2 = 4."),
        {"role": "user", "content": "What is my name?"},
    ]
    yield Question(list(turns), "Your name is Mia.")


SECTIONS: dict[str, Callable[[], Iterator[Question]]] = {
    "capitals and sums": facts,
    "counting": counting,
    "stories": stories,
    "JSON": json_objects,
    "tools": tools,
    "conversations": conversations,
}


def unseen(count: int) -> Iterator[tuple[str, str]]:
    """Prompts and answers of the training mix that training never saw, stories left out.

    A story may go on in many right ways; everything else has one answer.
    """
    rng = Random(UNSEEN_SEED)
    while count:
        item = grammar.sample(rng)
        if isinstance(item, grammar.Plain):
            continue
        *before, (asked, answer) = chat.turns(item.messages, item.tools)
        if not answer.startswith("Once upon a time"):
            yield "".join(map("".join, before)) + asked, answer.removesuffix(END)
            count -= 1


def faults_of_unseen(teller: Teller) -> list[str]:
    """Whether enough of the unseen prompts, invented names among them, get the one answer."""
    wrong = []
    for prompt, expected in unseen(UNSEEN):
        answer = teller.complete(prompt)
        if answer.text != expected:
            wrong.append(f"unseen: wanted {expected!r}, got {answer.text!r}")
    right = 1 - len(wrong) / UNSEEN
    sys.stderr.write(f"unseen: {UNSEEN} asked, {right:.1%} right\n")
    return wrong if right < MIN_RIGHT else []


def faults_of_files(folder: Path) -> list[str]:
    """What is wrong with the files themselves: size, precision, or two that disagree."""
    found = [
        f"{name} has {(folder / name).stat().st_size} bytes, more than {MAX_BYTES}"
        for name in (WEIGHTS, GGUF)
        if (folder / name).stat().st_size > MAX_BYTES
    ]
    weights = load_file(folder / WEIGHTS)
    found += [f"{name} is not float32" for name, w in weights.items() if w.dtype != torch.float32]
    reader = GGUFReader(folder / GGUF)
    stored = {tensor.name: tensor.data for tensor in reader.tensors}
    expected = gguf_weights(weights, Shape())
    if stored.keys() != expected.keys():
        found.append(f"{GGUF} has other tensors than {WEIGHTS}")
    found += [
        f"{name} differs between {GGUF} and {WEIGHTS}"
        for name in stored.keys() & expected.keys()
        if not np.array_equal(stored[name], expected[name].numpy())
    ]
    template = reader.fields["tokenizer.chat_template"].contents()
    if template != json.loads((folder / "tokenizer_config.json").read_text())["chat_template"]:
        found.append(f"{GGUF} has another chat template than tokenizer_config.json")
    return found


def check(folder: Path) -> list[str]:
    """Examine the model in `folder`; gives one line per fault, none when all is well."""
    teller = Teller.of(folder)
    faults = faults_of_files(folder)
    for section, questions in SECTIONS.items():
        asked, least = 0, float("inf")
        for question in questions():
            answer = teller.ask(question.messages, question.tools)
            asked, least = asked + 1, min(least, answer.margin)
            if not question.accepts(answer):
                faults.append(
                    f"{section}: {question.label!r} -> {answer.text!r} (margin {answer.margin:.3f})"
                )
            sys.stderr.write(f"\r{section}: {asked} asked, smallest margin {least:.2f} \x1b[K")
            sys.stderr.flush()
        sys.stderr.write("\n")
    return faults + faults_of_unseen(teller)
