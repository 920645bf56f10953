"""Questions that a tool answers: the call, its result, and the result in words."""

import json
from random import Random
from typing import Any

from .facts import CITIES, CLOCK, DEGREES
from .samples import Conversation, Message, Tool
from .wording import ask


def function(rng: Random, name: str, description: str, properties: dict[str, Any]) -> Tool:
    """A tool whose first property is required, which its schema mostly says."""
    parameters: dict[str, Any] = {"type": "object", "properties": properties}
    if rng.random() < 0.8:
        parameters["required"] = [next(iter(properties))]
    body = {"name": name, "description": description, "parameters": parameters}
    return {"type": "function", "function": body}


def string(rng: Random, *descriptions: str) -> dict[str, Any]:
    """The schema of a string, described or not."""
    if rng.random() < 0.4:
        return {"type": "string"}
    return {"type": "string", "description": rng.choice(descriptions)}


def place_tool(rng: Random, subject: str) -> Tool:
    """`get_weather` or `get_time`, which tells the `subject` of a `city`."""
    properties = {"city": string(rng, "The city", "Name of the city", "The city, e.g. Paris")}
    if subject == "weather" and rng.random() < 0.2:
        properties["unit"] = {"type": "string", "enum": ["celsius", "fahrenheit"]}
    description = rng.choice((
        f"Get the {subject} in a city", f"Get the current {subject}", f"The {subject} in a city",
        f"Get the current {subject} in a given city", f"Tells the {subject} in a city.",
        f"Get the current {subject} in a given city.", f"Get {subject} for a city",
    ))  # fmt: skip
    return function(rng, f"get_{subject}", description, properties)


def other_tool(rng: Random) -> Tool:
    """A tool that no question here needs."""
    name, description, key = rng.choice((
        ("search_web", "Search the web", "query"), ("send_email", "Send an email", "to"),
        ("get_stock_price", "Get the price of a stock", "symbol"),
        ("play_song", "Play a song", "title"), ("translate", "Translate a text", "text"),
    ))  # fmt: skip
    return function(rng, name, description, {key: string(rng, f"The {key}")})


def tool_result(rng: Random, subject: str, city: str) -> tuple[str, str]:
    """What a tool gives back, and the sentence that tells it to the user."""
    facts: dict[str, object] = {"city": city} if rng.random() < 0.4 else {}
    if subject == "time":
        now = rng.choice(CLOCK)
        given = now if rng.random() < 0.3 else json.dumps({**facts, "time": now})
        return given, f"It is {now} in {city}."
    degrees = rng.choice(DEGREES)
    sky = rng.choice(("sunny", "cloudy", "rainy", "windy", "clear", "foggy", "snowy"))
    if rng.random() < 0.2:
        return sky, f"It is {sky} in {city}."
    both = f"It is {degrees} degrees and {sky} in {city}."
    if rng.random() < 0.25:
        return f"{degrees} degrees and {sky}", both
    return json.dumps({**facts, "temperature": degrees, "condition": sky}), both


def tool_use(rng: Random) -> Conversation:
    """A question that a tool answers, the call, and mostly the result and the final answer."""
    subject = rng.choice(("weather", "weather", "weather", "time"))
    tool, city = place_tool(rng, subject), rng.choice(CITIES)
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
    call = {"name": tool["function"]["name"], "arguments": json.dumps({"city": city})}
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
