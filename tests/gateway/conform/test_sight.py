"""Whether conform finds out who does not look."""

from __future__ import annotations

import json

import pytest

from backends.base import RequestRefused
from backends.capabilities import EVERYTHING, Capability
from gateway.conform.asking import Target
from gateway.conform.finding import Outcome
from gateway.conform.probes import try_capability
from gateway.conform.sight import shown


class Reply:
    status, headers = 200, ()

    def __init__(self, body):
        self.body = self
        self.pieces = [json.dumps(body).encode()]

    def __aiter__(self):
        return self

    async def __anext__(self):
        if not self.pieces:
            raise StopAsyncIteration
        return self.pieces.pop()

    async def aclose(self):
        pass


class Eyes:
    """Answers with what `text` and `logprob` make of the picture's URL."""

    addresses = ("here",)
    capabilities = EVERYTHING
    conditional = frozenset({Capability.IMAGES})

    def __init__(self, text, logprob=None):
        self.text, self.logprob = text, logprob

    def readying(self, address):
        return None

    async def send(self, address, request):
        asked = json.loads(request.body)
        url = asked["messages"][0]["content"][1]["image_url"]["url"]
        choice = {"message": {"role": "assistant", "content": self.text(url)}}
        if asked.get("logprobs"):
            if self.logprob is None:
                raise RequestRefused(400, "no logprobs here")
            choice["logprobs"] = {"content": [{"logprob": self.logprob(url)}]}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        return Reply({"choices": [choice], "usage": usage})


async def found(eyes):
    target = Target(name="t", backend=eyes, address="here", model="m")
    return (await try_capability(target, Capability.IMAGES)).outcome


RED = shown()["messages"][0]["content"][1]["image_url"]["url"]


@pytest.mark.parametrize(
    ("text", "logprob", "outcome"),
    [
        (lambda url: url[-9:], None, Outcome.KEPT),
        (lambda url: "A square.", lambda url: -0.1 if url == RED else -0.2, Outcome.KEPT),
        (lambda url: "I see nothing.", lambda url: -0.1, Outcome.BROKEN),
        (
            lambda url: "I see nothing.",
            lambda url: -0.1 if url == RED else -0.1000001,
            Outcome.BROKEN,
        ),
        (lambda url: "A square.", None, Outcome.UNCLEAR),
    ],
)
async def test_another_picture_has_to_make_a_difference(text, logprob, outcome):
    assert await found(Eyes(text, logprob)) is outcome


async def test_a_clear_no_is_a_refusal():
    def blind(url):
        raise RequestRefused(400, "this model takes text only")

    assert await found(Eyes(blind)) is Outcome.REFUSED


async def test_who_sees_one_picture_only_does_not_see():
    def moody(url):
        if url != RED:
            raise RequestRefused(400, "no")
        return "red"

    assert await found(Eyes(moody)) is Outcome.BROKEN
