"""Questions the way different people type them."""

from random import Random

from .samples import Message


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


def exchange(question: str, answer: str) -> list[Message]:
    """A user message and its answer."""
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
