"""Answers that break off in the middle, and the gateways in which they do."""

from __future__ import annotations

import json

from gateway.telemetry.access_log import line as access_line
from tests.support.answers import events, is_done, said
from tests.support.inprocess import routing
from tests.support.upstream import (
    DONE,
    FINISH,
    ROLE,
    Close,
    Pause,
    Reset,
    Silence,
    chunk,
    data,
    stream,
    text,
)

WORDS = ("Once", " upon", " a", " time")


def answer(*words, of="B", finish="stop", usage=None):
    """The events of an answer that was made by `of`."""
    events = [ROLE, *map(text, words), chunk({}, finish=finish)]
    if usage is not None:
        told = {"prompt_tokens": usage[0], "completion_tokens": usage[1]}
        events.append(data({"id": "c-1", "choices": [], "usage": told}))
    return tuple(event.replace(b'"c-1"', b'"c-%s"' % of.encode()) for event in (*events, DONE))


BEGUN = answer("Once", " upon", of="A")[:3]
GOOD = stream(*answer(*WORDS))
DEATHS = {
    "reset": (*stream(*BEGUN, Pause(0.02), ended=False), Reset()),
    "cut": (*stream(*BEGUN, ended=False), Close()),
    "ended as HTTP should": stream(*BEGUN),
    "a malformed event": stream(*BEGUN, b"data: {broken\n\n", FINISH, DONE),
    "a torn event": stream(*BEGUN, b'data: {"choices":[{"ind'),
    "an error object": stream(*BEGUN, data({"error": {"message": "out of memory"}}), DONE),
    "[DONE] without a reason": stream(*BEGUN, DONE),
    "silence": (*stream(*BEGUN, ended=False), Silence()),
}
DEAD = DEATHS["ended as HTTP should"]


def engines(*upstreams, use="openai", model=None, **options):
    """A routing.yaml with one kind of engine; the last upstream is asked first."""
    more = {"timeouts": {"idle": "250ms"}, **(model or {})}
    document = routing(*upstreams, model=more)
    document["backends"]["engine"] |= {"use": use, **options}
    return document


async def greedy(gateway, **fields):
    return await gateway.chat(stream=True, temperature=0, **fields)


def asked_for(seen):
    return json.loads(seen.body)


def generations(upstream):
    """What it was asked for answers, and not for the tokens of a text."""
    return [one for one in upstream.seen if one.path != "/tokenize"]


def logging_access(document):
    return {**document, "telemetry": {"access_log": True}}


def access_lines(gateway):
    """Its access log from now on, which is not written."""
    lines = []
    gateway.gateway._access_log.write = lambda record: lines.append(access_line(record))
    return lines


def is_whole(reply):
    assert said(reply.text) == "Once upon a time"
    assert is_done(reply.text)
    assert {event["id"] for event in events(reply.text)} == {"c-A"}
    assert reply.text.count('"role":"assistant"') == 1
    return True
