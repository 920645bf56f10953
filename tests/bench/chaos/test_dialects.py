"""What a client hears in each dialect, and what no library would take."""

from __future__ import annotations

import httpx
import pytest

from bench.chaos.ask import ask
from bench.chaos.dialects import DIALECTS
from tests.faults import speech

SPEECHES = {
    "chat": speech.CHAT_SPEECH,
    "completions": speech.COMPLETIONS,
    "responses": speech.RESPONSES,
    "messages": speech.MESSAGES,
}


async def heard(name, body, *, streamed=True):
    def answer(request):
        assert request.url.path == DIALECTS[name].path
        return httpx.Response(200, content=body)

    transport = httpx.MockTransport(answer)
    async with httpx.AsyncClient(transport=transport, base_url="http://gateway") as client:
        return await ask(client, DIALECTS[name], "m", "Hi", streamed=streamed, within=5)


@pytest.mark.parametrize("name", ["chat", "completions", "messages"])
async def test_a_whole_stream_is_done(name):
    said = await heard(name, b"".join(SPEECHES[name].story))
    assert (said.text, said.done, said.odd, said.error) == (speech.SAID, True, None, None)
    assert said.finish


@pytest.mark.parametrize("name", DIALECTS)
async def test_one_that_breaks_off_is_not(name):
    said = await heard(name, b"".join(SPEECHES[name].begun))
    assert (said.text, said.done) == ("Once", False)


@pytest.mark.parametrize("name", ["chat", "completions", "messages"])
async def test_an_error_in_it_is_heard(name):
    said = await heard(name, b"".join((*SPEECHES[name].begun, SPEECHES[name].failed)))
    assert "out of memory" in said.error
    assert not said.done


async def test_a_message_begins_once():
    said = await heard("messages", b"".join((*speech.MESSAGES.begun, *speech.MESSAGES.begun)))
    assert said.odd == "it begins twice"


@pytest.mark.parametrize("streamed", [True, False])
async def test_what_nobody_can_read_is_odd(streamed):
    assert "nobody can read it" in (await heard("chat", b"data: {", streamed=streamed)).odd
