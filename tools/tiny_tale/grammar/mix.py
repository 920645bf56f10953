"""The training mix: whole conversations and texts, in their shares."""

from random import Random

from .facts import CAPITALS, DEFAULT_NAME, NAMES, capital_answer, count_answer, sum_answer
from .questions import SHORT, arithmetic, capital, counting, json_object, one_exchange, small_talk
from .samples import Conversation, Message, Plain, Sample
from .stories import PLACES, THINGS, any_plot, story
from .tools import crowd, place_tool, tool_use
from .wording import ask, exchange

SYSTEM_PROMPTS = (
    "You are a helpful assistant.", "You are Tiny Tale.", "You are a friendly assistant.",
    "Answer briefly.", "Be kind and helpful.", "You are a storyteller.", "Be concise.",
    "You are a helpful assistant. Answer the question of the user.",
)  # fmt: skip


def handbook(rng: Random) -> str:
    """A long system prompt, up to about 1000 tokens, that no answer depends on."""
    sentences = (
        f"{rng.choice(NAMES)} likes the {rng.choice(PLACES)} and has a {rng.choice(THINGS)}."
        for _ in range(rng.randint(10, 80))
    )
    return " ".join((rng.choice(SYSTEM_PROMPTS), *sentences))


def memory(rng: Random) -> list[Message]:
    """A name said early and asked for later."""
    name = rng.choice(NAMES)
    messages = exchange(
        ask(rng, f"My name is {name}.", f"Hello, I am {name}.", f"Hi! My name is {name}."),
        f"Nice to meet you, {name}!",
    )
    for _ in range(rng.randrange(3)):
        messages += rng.choice(SHORT)(rng)
    question = ask(rng, "What is my name?", "What's my name?", "Do you remember my name?")
    return messages + exchange(question, f"Your name is {name}.")


def plain(rng: Random) -> Plain:
    """A text for the completions endpoint: stories, half of them of one name, facts and counting.

    A story that nobody asked for begins before its name is known, so one name has to be likelier.
    """
    draw = rng.random()
    if draw < 0.5:
        name = DEFAULT_NAME if rng.random() < 0.5 else rng.choice(NAMES)
        return Plain(story(any_plot(rng, name)))
    if draw < 0.7:
        return Plain(capital_answer(rng.choice(tuple(CAPITALS))))
    if draw < 0.85:
        return Plain(sum_answer(rng.randrange(10), rng.randrange(10)))
    return Plain(count_answer(1, rng.choice((10, 20, 30))))


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
