"""Whether a model looks at what it is shown: another picture, the same words, another answer.

An answer about one picture shows nothing: a server that drops the image answers as well.
"""

from __future__ import annotations

from typing import Any

from backends.base import Endpoint
from gateway.conform.asking import Answer, Fields, Target, ask
from gateway.conform.finding import MISSHAPEN, Outcome

_RED = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAX0lEQVR4nO3PQQ0AIBDAMMC/50MEj4ZkVbDtWX87"
    "OuBVA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA9oF"
    "UoUBf3Xr7AgAAAAASUVORK5CYII="
)
_BLUE = (
    "iVBORw0KGgoAAAANSUhEUgAAAEAAAABACAIAAAAlC+aJAAAAYElEQVR4nO3PQQ0AIBDAsAP/nkEEj4ZkVbCtmTM/"
    "2zrgVQNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgNaA1oDWgPa"
    "BVCHAX/y3CvgAAAAAElFTkSuQmCC"
)
"""Squares of one colour, 64 pixels wide: some processors take nothing narrower than a patch."""

_CLOSE = 1e-3
"""Log-probabilities that differ by less may be those of one prompt, computed in other batches."""


def shown(picture: str = _RED, **more: Any) -> Fields:
    """A short, greedy question about a picture."""
    url = f"data:image/png;base64,{picture}"
    content = [
        {"type": "text", "text": "Which colour is this? Answer in one word."},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    said = [{"role": "user", "content": content}]
    return {"messages": said, "temperature": 0, "max_tokens": 16, **more}


async def looks(target: Target) -> tuple[Outcome, str]:
    """Whether two pictures make a difference to what it says, or to how sure it is of that."""
    if (unlike := await _two(target)) is None:
        return Outcome.BROKEN, "it answers for one picture, and not for another"
    if unlike:
        return Outcome.KEPT, ""
    unlike = await _two(target, logprobs=True)
    if unlike is None:
        return Outcome.UNCLEAR, "two pictures get the same answer, and it tells no logprobs"
    if unlike:
        return Outcome.KEPT, ""
    return Outcome.BROKEN, "two pictures make no difference to it: it does not look at them"


async def _two(target: Target, **more: Any) -> bool | None:
    """Whether two answers differ; None where one of them is none, or not as it should be."""
    first, second = [
        await ask(target, Endpoint.CHAT, shown(picture, **more)) for picture in (_RED, _BLUE)
    ]
    if not (first.ok and second.ok):
        return None
    try:
        if not more:
            return _text(first) != _text(second)
        pairs = list(zip(_logprobs(first), _logprobs(second), strict=False))
    except MISSHAPEN:
        return None
    return any(abs(one - other) > _CLOSE for one, other in pairs) if pairs else None


def _text(answer: Answer) -> str:
    text: str = answer.json()["choices"][0]["message"]["content"]
    return text


def _logprobs(answer: Answer) -> list[float]:
    content = answer.json()["choices"][0]["logprobs"]["content"]
    return [float(token["logprob"]) for token in content]
