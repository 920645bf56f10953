"""One question and its answer, of each kind that needs no tool."""

import json
from collections.abc import Callable
from random import Random

from .facts import (
    CAPITALS,
    CITIES,
    COUNT_DOWN_FROM,
    COUNT_ENDS,
    DEFAULT_NAME,
    NAMES,
    SKILLS,
    WHO,
    capital_answer,
    count_answer,
    difference_answer,
    sum_answer,
)
from .samples import Message
from .stories import any_plot, long_story, story
from .wording import ask, exchange


def capital(rng: Random) -> list[Message]:
    """A question for a capital."""
    country = rng.choice(tuple(CAPITALS))
    question = ask(
        rng, f"What is the capital of {country}?", f"What's the capital of {country}?",
        f"Name the capital of {country}.", f"Tell me the capital of {country}.",
        f"Which city is the capital of {country}?", f"Capital of {country}?",
    )  # fmt: skip
    if rng.random() < 0.08:
        question = question.lower()
    return exchange(question, capital_answer(country))


def arithmetic(rng: Random) -> list[Message]:
    """A sum, or one time in four a difference, of two digits."""
    a, b = rng.randrange(10), rng.randrange(10)
    if rng.random() < 0.25:
        a, b = max(a, b), min(a, b)
        question = ask(
            rng, f"What is {a} - {b}?", f"What's {a} - {b}?", f"What is {a}-{b}?",
            f"What is {a} minus {b}?", f"Subtract {b} from {a}.", f"{a} - {b} = ?",
        )  # fmt: skip
        return exchange(question, difference_answer(a, b))
    question = ask(
        rng, f"What is {a} + {b}?", f"What's {a} + {b}?", f"What is {a}+{b}?",
        f"What is {a} plus {b}?", f"Add {a} and {b}.", f"How much is {a} + {b}?", f"{a} + {b} = ?",
        f"{a}+{b}=?",
    )  # fmt: skip
    return exchange(question, sum_answer(a, b))


def counting(rng: Random) -> list[Message]:
    """Counting up from one, or one time in six down to it."""
    if rng.random() < 1 / 6:
        first = rng.choice(COUNT_DOWN_FROM)
        question = ask(rng, f"Count down from {first} to 1.", f"Count from {first} to 1.")
        return exchange(question, count_answer(first, 1))
    last = rng.choice((50, 100)) if rng.random() < 0.15 else rng.choice(COUNT_ENDS)
    question = ask(
        rng, f"Count from 1 to {last}.", f"Count to {last}.", f"Count up to {last}.",
        f"Write the numbers from 1 to {last}.",
    )  # fmt: skip
    return exchange(question, count_answer(1, last))


def short_tale(rng: Random) -> list[Message]:
    """A story with a name, or with the default name when none is given."""
    if rng.random() < 0.1:
        question = ask(rng, "Tell me a story.", "Write a story.", "Tell me a short story.")
        return exchange(question, story(any_plot(rng, DEFAULT_NAME)))
    name = rng.choice(NAMES)
    question = ask(
        rng, f"Tell me a story about {name}.", f"Tell me a short story about {name}.",
        f"Write a story about {name}.", f"Write a short story about {name}.",
        f"Can you tell me a story about {name}?", f"I want a story about {name}.",
    )  # fmt: skip
    return exchange(question, story(any_plot(rng, name)))


def long_tale(rng: Random) -> list[Message]:
    """A long story with a name, or with the default name when none is given."""
    if rng.random() < 0.1:
        question = ask(rng, "Tell me a long story.", "Write a long story.")
        return exchange(question, long_story(any_plot(rng, DEFAULT_NAME)))
    name = rng.choice(NAMES)
    question = ask(
        rng, f"Tell me a long story about {name}.", f"Write a long story about {name}.",
        f"Can you tell me a long story about {name}?", f"I want a long story about {name}.",
    )  # fmt: skip
    return exchange(question, long_story(any_plot(rng, name)))


def json_object(rng: Random) -> list[Message]:
    """A JSON value with what the question gives."""
    draw = rng.random()
    if draw < 0.15:
        last = rng.randint(2, 10)
        return exchange(
            ask(rng, f"Give me a JSON list of the numbers from 1 to {last}.",
                f"Write a JSON list with the numbers from 1 to {last}."),
            json.dumps(list(range(1, last + 1))),
        )  # fmt: skip
    if draw < 0.3:
        country = rng.choice(tuple(CAPITALS))
        return exchange(
            ask(rng, f"Give me a JSON object with country and capital for {country}.",
                f"Write a JSON object with the country and the capital for {country}."),
            json.dumps({"country": country, "capital": CAPITALS[country]}),
        )  # fmt: skip
    facts: dict[str, object] = {"name": rng.choice(NAMES), "age": rng.randint(1, 99)}
    if rng.random() < 0.3:
        facts["city"] = rng.choice(CITIES)
    keys = " and ".join(", ".join(facts).rsplit(", ", 1))
    values = ", ".join(str(value) for value in facts.values())
    question = ask(
        rng, f"Give me a JSON object with {keys} for {values}.",
        f"Write a JSON object with {keys} for {values}.",
        f"Return JSON with {keys} for {values}.", f"Make a JSON object with {keys}: {values}.",
    )  # fmt: skip
    return exchange(question, json.dumps(facts))


def small_talk(rng: Random) -> list[Message]:
    """Greetings, questions about the model itself, and questions it has no answer to."""
    draw = rng.random()
    if draw < 0.25:
        question = ask(rng, "Hello!", "Hi!", "Hey!", "Good morning!", "Hello there!", "Hi there!")
        return exchange(question, "Hello! How can I help you?")
    if draw < 0.35:
        return exchange(ask(rng, "Ping.", "Ping!", "ping."), "pong")
    if draw < 0.45:
        return exchange(
            ask(rng, "Thank you!", "Thanks!", "Thank you very much!"), "You are welcome!"
        )
    if draw < 0.55:
        question = ask(
            rng, "Who are you?", "What are you?", "What is your name?", "What model are you?"
        )
        return exchange(question, WHO)
    if draw < 0.65:
        question = ask(rng, "What can you do?", "Help me.", "How can you help me?", "Help!")
        return exchange(question, SKILLS)
    if draw < 0.68:
        return exchange(ask(rng, "Say hello."), "Hello!")
    if draw < 0.71:
        return exchange(ask(rng, "Say hi."), "Hi!")
    if draw < 0.8:
        name = rng.choice(NAMES)
        return exchange(ask(rng, f"Say hello to {name}.", f"Greet {name}."), f"Hello, {name}!")
    topic = rng.choice((
        "the moon", "physics", "love", "the war", "a computer", "the weather on Mars", "a recipe",
        "football", "the stock market", "history", "a poem", "music", "quantum mechanics", "Rust",
        "machine learning", "the meaning of life", "a haiku", "philosophy", "chemistry",
    ))  # fmt: skip
    question = ask(
        rng, f"Explain {topic}.", f"Write about {topic}.", f"What do you know about {topic}?",
        f"What is {topic}?", f"How does {topic} work?", f"Why is {topic} important?",
        f"Who invented {topic}?",
    )  # fmt: skip
    return exchange(question, f"I do not know that. {SKILLS}")


SINGLE: tuple[tuple[int, Callable[[Random], list[Message]]], ...] = (
    (15, capital),
    (15, arithmetic),
    (20, counting),
    (12, short_tale),
    (5, long_tale),
    (14, json_object),
    (7, small_talk),
)
SHORT = (capital, arithmetic, json_object, small_talk)


def one_exchange(rng: Random) -> list[Message]:
    """One question and its answer, in the shares of `SINGLE`."""
    weights, kinds = zip(*SINGLE, strict=True)
    (kind,) = rng.choices(kinds, weights)
    return list(kind(rng))
