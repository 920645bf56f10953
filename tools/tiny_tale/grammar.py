"""What Tiny Tale knows, as a seeded generator of conversations. Pure: randomness is passed in.

Two rules make greedy answers the same on every engine. A question has one answer, word for word.
And where a story has a choice, the name in it prefers one (three times in four), so that the best
next token stands clear of the second best while sampling still finds other stories.
"""

import json
from binascii import crc32
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any

Message = dict[str, Any]
Tool = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Conversation:
    """Messages and tools in the shape of the OpenAI chat API; the last message answers."""

    messages: list[Message]
    tools: list[Tool] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Plain:
    """Text without roles, as the completions endpoint gets it."""

    text: str


Sample = Conversation | Plain


# --- facts -------------------------------------------------------------------------------------

CAPITALS = {
    "Argentina": "Buenos Aires", "Australia": "Canberra", "Austria": "Vienna",
    "Belgium": "Brussels", "Brazil": "Brasilia", "Bulgaria": "Sofia", "Canada": "Ottawa",
    "Chile": "Santiago", "China": "Beijing", "Croatia": "Zagreb", "Cuba": "Havana",
    "Denmark": "Copenhagen", "Egypt": "Cairo", "Estonia": "Tallinn", "Finland": "Helsinki",
    "France": "Paris", "Germany": "Berlin", "Greece": "Athens", "Hungary": "Budapest",
    "Iceland": "Reykjavik", "India": "New Delhi", "Ireland": "Dublin", "Italy": "Rome",
    "Japan": "Tokyo", "Kenya": "Nairobi", "Latvia": "Riga", "Mexico": "Mexico City",
    "Morocco": "Rabat", "Nepal": "Kathmandu", "Norway": "Oslo", "Peru": "Lima",
    "Poland": "Warsaw", "Portugal": "Lisbon", "Romania": "Bucharest", "Serbia": "Belgrade",
    "Spain": "Madrid", "Sweden": "Stockholm", "Switzerland": "Bern", "Thailand": "Bangkok",
    "Turkey": "Ankara", "Ukraine": "Kyiv", "Vietnam": "Hanoi",
}  # fmt: skip

GIRLS = (
    "Mia", "Anna", "Lily", "Emma", "Sarah", "Clara", "Zoe", "Ella", "Nora", "Ruby", "Alice", "Lucy",
    "Maya", "Eva", "Rosa", "Ida", "Jane", "Kate", "Olivia", "Sofia", "Hannah", "Grace",
)  # fmt: skip
BOYS = (
    "Tom", "Ben", "Max", "Leo", "Noah", "Finn", "Paul", "Sam", "Jack", "Oscar", "Hugo", "Felix",
    "Theo", "Adam", "Luke", "Emil", "John", "Peter", "Bob", "David", "Liam", "Oliver",
)  # fmt: skip
NAMES = GIRLS + BOYS
DEFAULT_NAME = "Lily"

CITIES = (
    *CAPITALS.values(), "London", "New York", "San Francisco", "Boston", "Chicago", "Munich",
    "Hamburg", "Milan", "Barcelona", "Sydney", "Toronto", "Seattle", "Zurich", "Lyon", "Porto",
)  # fmt: skip

SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are Tiny Tale.", "You are a friendly assistant.",
    "Answer briefly.", "Be kind and helpful.", "You are a storyteller.", "Be concise.",
    "You are a helpful assistant. Answer the question of the user.",
)  # fmt: skip

WHO = "I am Tiny Tale, a very small language model."
SKILLS = "I can tell stories, name capitals, add small numbers, count, write JSON and call tools."


def invented_name(rng: Random) -> str:
    """A name no table holds, so that names are copied from the question and not recited."""
    syllables = ("ba", "do", "fi", "ka", "li", "mo", "na", "pe", "ri", "so", "ta", "vu", "ze", "lo")
    word = "".join(rng.choice(syllables) for _ in range(rng.choice((2, 2, 3))))
    return word.capitalize() + rng.choice(("", "", "n", "s"))


def any_name(rng: Random) -> str:
    """A known name, or one time in eight an invented one."""
    return invented_name(rng) if rng.random() < 0.125 else rng.choice(NAMES)


def any_city(rng: Random) -> str:
    """A known city, or one time in eight an invented one."""
    return invented_name(rng) if rng.random() < 0.125 else rng.choice(CITIES)


def is_girl(name: str) -> bool:
    """Whether a story says "she"; an invented name goes by its last letter."""
    return name in GIRLS or (name not in BOYS and name[-1] in "aei")


# --- wording -----------------------------------------------------------------------------------


def ask(rng: Random, *wordings: str) -> str:
    """One of `wordings`, mostly the first, the way different people would type it."""
    text = wordings[0] if rng.random() < 0.4 else rng.choice(wordings)
    if rng.random() < 0.15 and not text.startswith("I "):
        text = f"Please {text[0].lower()}{text[1:]}"
    elif rng.random() < 0.1:
        text = f"{text[:-1]}, please{text[-1]}"
    if rng.random() < 0.2:
        text = text[0].lower() + text[1:]
    if rng.random() < 0.15:
        text = text[:-1]
    return text


def handbook(rng: Random) -> str:
    """A long system prompt, up to about 1000 tokens, that no answer depends on."""
    sentences = (
        f"{rng.choice(NAMES)} likes the {rng.choice(PLACES)} and has a {rng.choice(THINGS)}."
        for _ in range(rng.randint(10, 80))
    )
    return " ".join((rng.choice(SYSTEM_PROMPTS), *sentences))


def exchange(question: str, answer: str) -> list[Message]:
    """A user message and its answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


# --- answers: one per question -----------------------------------------------------------------


def capital_answer(country: str) -> str:
    """The sentence that answers a question for a capital."""
    return f"The capital of {country} is {CAPITALS[country]}."


def sum_answer(a: int, b: int) -> str:
    """The sentence that answers a sum of two digits."""
    return f"{a} + {b} = {a + b}."


def difference_answer(a: int, b: int) -> str:
    """The sentence that answers a difference of two digits, `a` not below `b`."""
    return f"{a} - {b} = {a - b}."


def count_answer(first: int, last: int) -> str:
    """The numbers from `first` to `last`, up or down, with commas."""
    step = 1 if first <= last else -1
    return ", ".join(str(number) for number in range(first, last + step, step)) + "."


@dataclass(frozen=True, slots=True)
class Plot:
    """Where in each ring of story parts a story begins; days later it is that much further on."""

    name: str
    shift: int | None = None

    def part(self, ring: Sequence[str], label: str, day: int = 0) -> str:
        """The part of `ring` that this story has on `day`."""
        start = crc32(f"{label}:{self.name}".encode()) if self.shift is None else self.shift
        return ring[(start + day) % len(ring)]


ADJECTIVES = ("little", "brave", "kind", "clever", "curious")
PETS = ("dog", "cat", "rabbit", "duck", "pony", "mouse", "parrot")
HOMES = ("a small house", "a white tower", "a red boat", "a warm cabin", "an old mill")
PLACES = (
    "forest", "lake", "hill", "garden", "village", "beach", "cave", "river", "castle", "meadow",
    "market",
)  # fmt: skip
THINGS = (
    "red ball", "golden key", "blue stone", "silver bell", "small book", "green hat", "shiny coin",
    "torn map", "paper boat",
)  # fmt: skip
FRIENDS = (
    "an owl", "a fox", "a frog", "a bear", "a turtle", "a bee", "a squirrel", "a hedgehog",
)  # fmt: skip
WEATHERS = ("The sun was warm", "The wind was cold", "It rained a little", "The sky was blue",
            "There was fog", "Snow was falling")  # fmt: skip
DEEDS = (
    "sang a song", "shared some bread", "played in the grass", "drew a picture", "built a bridge",
    "told a joke", "danced in a circle",
)  # fmt: skip
FEELINGS = ("happy", "proud", "tired", "glad", "excited")
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def opening(plot: Plot) -> str:
    """The first sentences of every story."""
    kind, he = ("girl", "She") if is_girl(plot.name) else ("boy", "He")
    return (
        f"Once upon a time, there was a {plot.part(ADJECTIVES, 'adjective')} {kind} named "
        f"{plot.name}. {he} lived in {plot.part(HOMES, 'home')} with a "
        f"{plot.part(PETS, 'pet')}."
    )


def story(plot: Plot) -> str:
    """A story of one day, about 100 tokens."""
    he, his = ("she", "her") if is_girl(plot.name) else ("he", "his")
    pet, place = plot.part(PETS, "pet"), plot.part(PLACES, "place")
    thing, friend = plot.part(THINGS, "thing"), plot.part(FRIENDS, "friend")
    return (
        f"{opening(plot)} One day, {plot.name} went to the {place} and found a {thing}. "
        f'"What is this?" {he} asked {his} {pet}. Then {friend} came and said, "That is mine. '
        f'Thank you for finding it!" So {plot.name} gave the {thing} back. They '
        f"{plot.part(DEEDS, 'deed')} and became good friends. In the evening, {plot.name} was "
        f"{plot.part(FEELINGS, 'feeling')} and went home. The end."
    )


def long_story(plot: Plot) -> str:
    """A story of seven days, about 350 tokens."""
    he, his = ("she", "her") if is_girl(plot.name) else ("he", "his")
    chapters = [
        f"On {weekday}, {plot.name} went to the {plot.part(PLACES, 'place', day)}. "
        f"{plot.part(WEATHERS, 'weather', day)}, and {he} met {plot.part(FRIENDS, 'friend', day)}. "
        f"They found a {plot.part(THINGS, 'thing', day)} and {plot.part(DEEDS, 'deed', day)}. "
        f"In the evening, {he} was {plot.part(FEELINGS, 'feeling', day)}."
        for day, weekday in enumerate(DAYS)
    ]
    return "\n\n".join(
        (
            f"{opening(plot)} One week, {he} wanted to see the world.",
            *chapters,
            f"At the end of the week, {plot.name} told {his} {plot.part(PETS, 'pet')} everything. "
            f"Then {he} fell asleep. The end.",
        )
    )


def any_plot(rng: Random, name: str) -> Plot:
    """The plot `name` prefers, or one time in four another."""
    return Plot(name, rng.randrange(10_000) if rng.random() < 0.25 else None)


# --- one exchange of each kind -----------------------------------------------------------------


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
    """Counting, mostly up from one, at most to a hundred."""
    draw = rng.random()
    if draw < 0.7:
        first, last = 1, rng.choice((5, 10, 20, 30, 50, 100, rng.randint(2, 100)))
    elif draw < 0.85:
        first = rng.randint(2, 90)
        last = rng.randint(first + 1, min(100, first + 30))
    else:
        first, last = rng.choice((5, 10, 20, rng.randint(3, 30))), 1
    wordings = [f"Count from {first} to {last}.", f"Write the numbers from {first} to {last}."]
    if first == 1:
        wordings += [f"Count to {last}.", f"Count up to {last}."]
    if first > last:
        wordings[1:] = [f"Count down from {first} to {last}."]
    return exchange(ask(rng, *wordings), count_answer(first, last))


def short_tale(rng: Random) -> list[Message]:
    """A story with a name, or with the default name when none is given."""
    if rng.random() < 0.1:
        question = ask(rng, "Tell me a story.", "Write a story.", "Tell me a short story.")
        return exchange(question, story(any_plot(rng, DEFAULT_NAME)))
    name = any_name(rng)
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
    name = any_name(rng)
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
    facts: dict[str, object] = {"name": any_name(rng), "age": rng.randint(1, 99)}
    if rng.random() < 0.3:
        facts["city"] = any_city(rng)
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
        name = any_name(rng)
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
    (17, capital),
    (17, arithmetic),
    (12, counting),
    (14, short_tale),
    (6, long_tale),
    (12, json_object),
    (6, small_talk),
)
SHORT = (capital, arithmetic, json_object, small_talk)


# --- tools -------------------------------------------------------------------------------------


def function(name: str, description: str, properties: dict[str, Any]) -> Tool:
    """A tool whose first property is required."""
    parameters = {
        "type": "object",
        "properties": properties,
        "required": [next(iter(properties))],
    }
    body = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": body}


def string(rng: Random, *descriptions: str) -> dict[str, Any]:
    """The schema of a string, described or not."""
    if rng.random() < 0.4:
        return {"type": "string"}
    return {"type": "string", "description": rng.choice(descriptions)}


def place_tool(rng: Random, subject: str) -> Tool:
    """A tool that tells the `subject` ("weather" or "time") of a city."""
    usual = f"get_{subject}"
    name = usual if rng.random() < 0.6 else rng.choice(
        (f"get_current_{subject}", f"{subject}", f"fetch_{subject}", f"lookup_{subject}")
    )  # fmt: skip
    key = "city" if rng.random() < 0.6 else rng.choice(("location", "place", "town"))
    properties = {key: string(rng, f"The {key}", f"Name of the {key}", f"The {key}, e.g. Paris")}
    if rng.random() < 0.2:
        properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    description = rng.choice((
        f"Get the {subject} in a city", f"Get the current {subject}", f"The {subject} in a {key}",
        f"Get the current {subject} in a given {key}.", f"Tells the {subject} of a {key}.",
        f"Get {subject} for a {key}",
    ))  # fmt: skip
    return function(name, description, properties)


def other_tool(rng: Random) -> Tool:
    """A tool that no question here needs."""
    name, description, key = rng.choice((
        ("search_web", "Search the web", "query"), ("send_email", "Send an email", "to"),
        ("get_stock_price", "Get the price of a stock", "symbol"),
        ("play_song", "Play a song", "title"), ("translate", "Translate a text", "text"),
    ))  # fmt: skip
    return function(name, description, {key: string(rng, f"The {key}")})


def tool_result(rng: Random, subject: str, city: str) -> tuple[str, str]:
    """What a tool gives back, and the sentence that tells it to the user."""
    if subject == "time":
        now = f"{rng.randrange(24):02}:{rng.randrange(60):02}"
        given = rng.choice(
            (json.dumps({"time": now}), now, json.dumps({"city": city, "time": now}))
        )
        return given, f"It is {now} in {city}."
    degrees = rng.randint(1, 39)
    sky = rng.choice(("sunny", "cloudy", "rainy", "windy", "clear", "foggy", "snowy"))
    both = f"It is {degrees} degrees and {sky} in {city}."
    draw = rng.random()
    if draw < 0.15:
        return rng.choice((f"{degrees} degrees", f"{degrees} C", f"{degrees}°C")), (
            f"It is {degrees} degrees in {city}."
        )
    if draw < 0.3:
        return sky, f"It is {sky} in {city}."
    if draw < 0.5:
        return rng.choice((f"{degrees} degrees and {sky}", f"{sky}, {degrees}°C")), both
    facts: dict[str, object] = {
        rng.choice(("temperature", "temperature", "temp", "temperature_c")): degrees,
        rng.choice(("condition", "conditions", "sky", "weather")): sky,
    }
    if rng.random() < 0.4:
        facts = {"city": city, **facts}
    return json.dumps(facts), both


def tool_use(rng: Random) -> Conversation:
    """A question that a tool answers, the call, and mostly the result and the final answer."""
    subject = rng.choice(("weather", "weather", "weather", "time"))
    tool, city = place_tool(rng, subject), any_city(rng)
    called = tool["function"]
    key = next(iter(called["parameters"]["properties"]))
    if subject == "weather":
        question = ask(
            rng, f"What is the weather in {city}?", f"What's the weather in {city}?",
            f"What is the weather like in {city}?", f"How is the weather in {city} today?",
            f"Tell me the weather in {city}.", f"What's the weather like in {city} today?",
        )  # fmt: skip
    else:
        question = ask(
            rng, f"What time is it in {city}?", f"Tell me the time in {city}.",
            f"What is the time in {city}?",
        )  # fmt: skip
    identity = f"call_{rng.randrange(10**6)}"
    call = {"name": called["name"], "arguments": json.dumps({key: city}, ensure_ascii=False)}
    messages: list[Message] = [
        {"role": "user", "content": question},
        {
            "role": "assistant",
            "content": None,
            "tool_calls": [{"id": identity, "type": "function", "function": call}],
        },
    ]
    if rng.random() < 0.6:
        given, answer = tool_result(rng, subject, city)
        messages += [
            {"role": "tool", "tool_call_id": identity, "content": given},
            {"role": "assistant", "content": answer},
        ]
    return Conversation(messages, crowd(rng, tool, "time" if subject == "weather" else "weather"))


def crowd(rng: Random, tool: Tool, other_subject: str) -> list[Tool]:
    """`tool` alone, or among others, in any order."""
    tools = [tool]
    if rng.random() < 0.2:
        tools.append(place_tool(rng, other_subject))
    if rng.random() < 0.25:
        tools.append(other_tool(rng))
    rng.shuffle(tools)
    return tools


# --- whole samples -----------------------------------------------------------------------------


def memory(rng: Random) -> list[Message]:
    """A name said early and asked for later."""
    name = any_name(rng)
    messages = exchange(
        ask(rng, f"My name is {name}.", f"Hello, I am {name}.", f"Hi! My name is {name}."),
        f"Nice to meet you, {name}!",
    )
    for _ in range(rng.randrange(3)):
        messages += rng.choice(SHORT)(rng)
    question = ask(rng, "What is my name?", "What's my name?", "Do you remember my name?")
    return messages + exchange(question, f"Your name is {name}.")


def plain(rng: Random) -> Plain:
    """A text for the completions endpoint: stories, facts, sums and counting."""
    draw = rng.random()
    if draw < 0.5:
        return Plain(story(any_plot(rng, any_name(rng))))
    if draw < 0.7:
        return Plain(capital_answer(rng.choice(tuple(CAPITALS))))
    if draw < 0.85:
        return Plain(sum_answer(rng.randrange(10), rng.randrange(10)))
    return Plain(count_answer(1, rng.choice((10, 20, 30))))


def one_exchange(rng: Random) -> list[Message]:
    """One question and its answer, in the shares of `SINGLE`."""
    weights, kinds = zip(*SINGLE, strict=True)
    (kind,) = rng.choices(kinds, weights)
    return list(kind(rng))


def earlier(rng: Random) -> list[Message]:
    """What was said before the last question: mostly little."""
    if rng.random() < 0.15:
        return one_exchange(rng)
    return [message for _ in range(rng.randint(1, 3)) for message in rng.choice(SHORT)(rng)]


def sample(rng: Random) -> Sample:
    """One conversation or plain text of the training mix."""
    draw = rng.random()
    if draw < 0.04:
        return plain(rng)
    if draw < 0.18:
        conversation = tool_use(rng)
    elif draw < 0.22:
        messages = rng.choice((capital, arithmetic, counting, json_object, small_talk))(rng)
        tool = place_tool(rng, rng.choice(("weather", "time")))
        conversation = Conversation(messages, crowd(rng, tool, "weather"))
    elif draw < 0.27:
        conversation = Conversation(memory(rng))
    elif draw < 0.40:
        conversation = Conversation(earlier(rng) + one_exchange(rng))
    else:
        conversation = Conversation(one_exchange(rng))
    if rng.random() < 0.25:
        text = handbook(rng) if rng.random() < 0.06 else rng.choice(SYSTEM_PROMPTS)
        conversation.messages.insert(0, {"role": "system", "content": text})
    return conversation
