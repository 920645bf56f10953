"""An engine in a child, as the gateway has it: launched, watched, and seeming to be here."""

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager

import msgspec
import pytest

from backends.base import Adapter, BackendError, Endpoint, Request, RequestRefused, Stage
from backends.capabilities import Capability
from backends.load import Demand
from backends.options import MlxOptions
from backends.units import Timeout
from tests.backends.isolation.conftest import MODEL
from tests.support.voices import QUESTIONS, voice_of

pytestmark = pytest.mark.slow
LONG = {"messages": [{"role": "user", "content": "x"}], "ignore_eos": True, "max_tokens": 4000}
ASK = {"messages": [{"role": "user", "content": "What is 3 + 4?"}], "temperature": 0}


@asynccontextmanager
async def isolated(**options):
    entry = MlxOptions(**{"model": str(MODEL), "isolation": "process", **options})
    backend = entry.open("tale")
    try:
        await backend.start()
        yield backend
    finally:
        await backend.stop()


@pytest.fixture
async def backend():
    async with isolated() as opened:
        yield opened


def request(endpoint=Endpoint.CHAT, **body):
    return Request(
        endpoint=endpoint, body=json.dumps(body).encode(), stream=bool(body.get("stream"))
    )


async def ask(backend, **body):
    (address,) = backend.addresses
    reply = await backend.send(address, request(**body))
    return json.loads(b"".join([piece async for piece in reply.body]))


def child_of(backend):
    """Its process id; None while there is none that serves."""
    (supervisor,) = backend._supervisors.values()
    return None if supervisor.life is None else supervisor.life.process.pid


async def another_child(backend, before):
    for _ in range(1500):
        if child_of(backend) not in (None, before):
            return
        await asyncio.sleep(0.02)
    raise AssertionError("it has not been started again")


async def test_what_its_model_can_is_known_here_once_it_is_loaded(backend):
    assert Capability.IMAGES in MlxOptions(model="x").adapter().capabilities
    assert Capability.IMAGES not in backend.capabilities
    assert Capability.IMAGES not in backend.conditional
    assert backend.why_not[Capability.IMAGES] == "this model takes text only"
    assert Capability.JSON_SCHEMA in backend.capabilities


async def test_it_answers_as_the_engine_in_a_thread_does(backend):
    (address,) = backend.addresses
    here = MlxOptions(model=str(MODEL)).open("tale")
    await here.start()
    try:
        theirs, ours = await ask(backend, **ASK), await ask(here, **ASK)
    finally:
        await here.stop()
    assert theirs["choices"] == ours["choices"]
    assert theirs["usage"] == ours["usage"]
    assert backend.capabilities == here.capabilities
    assert (await backend.probe(address)).ready
    assert backend.load(address).running == 0


async def test_tokens_of_a_text_are_counted(backend):
    (address,) = backend.addresses
    text = "Once upon a time, there was"
    short, long = [
        await ask(backend, messages=[{"role": "user", "content": said}], max_tokens=1)
        for said in ("Hi", "Hi" + text)
    ]
    more = long["usage"]["prompt_tokens"] - short["usage"]["prompt_tokens"]
    assert await backend.count_text(address, text) == more


async def test_a_refusal_is_raised_as_it_was_there(backend):
    with pytest.raises(RequestRefused) as caught:
        await ask(backend, messages=[])
    assert (caught.value.status, caught.value.param) == (400, "messages")


async def test_a_full_engine_says_when_to_come_again():
    async with isolated(max_batch=1, max_waiting=0) as backend:
        (address,) = backend.addresses
        reply = await backend.send(address, request(**LONG, stream=True))
        try:
            with pytest.raises(RequestRefused) as caught:
                await ask(backend, **ASK)
        finally:
            await reply.body.aclose()
    assert caught.value.status == 429
    assert caught.value.retry_after


async def test_a_killed_engine_breaks_its_answers_and_is_started_again(backend):
    (address,) = backend.addresses
    before = child_of(backend)
    reply = await backend.send(address, request(**LONG, stream=True))
    await anext(reply.body)
    os.kill(before, signal.SIGKILL)
    with pytest.raises(BackendError) as caught:
        async for _ in reply.body:
            pass
    assert caught.value.stage is Stage.STREAMING
    await reply.body.aclose()
    await another_child(backend, before)
    assert "7" in (await ask(backend, **ASK))["choices"][0]["message"]["content"]


async def test_a_frozen_engine_is_killed_and_started_again():
    async with isolated(stall_timeout=Timeout(1)) as backend:
        (address,) = backend.addresses
        before = child_of(backend)
        reply = await backend.send(address, request(**LONG, stream=True))
        await anext(reply.body)
        os.kill(before, signal.SIGSTOP)
        said = "^tale@0: the engine was stopped: hangs: made no token within 1 s$"
        with pytest.raises(BackendError, match=said):
            async for _ in reply.body:
                pass
        await reply.body.aclose()
        await another_child(backend, before)


async def test_a_busy_engine_is_not_taken_for_a_frozen_one(monkeypatch):
    """A whole answer shows nothing before its end, and leaves no place for a probe."""
    # One step may take seconds on a machine that does much else, as where MLX compiles for it.
    monkeypatch.setattr("backends.launch.watch._PROBE_TIME", (5.0, 30.0))
    async with isolated(max_batch=1, max_waiting=0, stall_timeout=Timeout(1)) as backend:
        before = child_of(backend)
        answer = await ask(backend, **LONG)
        assert answer["usage"]["completion_tokens"] == LONG["max_tokens"]
        assert child_of(backend) == before


async def test_what_is_asked_of_it_is_told_and_of_one_that_is_frozen_unknown(backend):
    (address,) = backend.addresses
    assert await backend.demand(address) == Demand(running=0, waiting=0, kv_usage=0)
    reply = await backend.send(address, request(stream=True, **LONG))
    await anext(reply.body)
    busy = await backend.demand(address)
    assert (busy.running, busy.waiting) == (1, 0)
    assert 0 < busy.kv_usage <= 1
    os.kill(child_of(backend), signal.SIGSTOP)
    try:
        assert await backend.demand(address) is None
    finally:
        os.kill(child_of(backend), signal.SIGCONT)
        await reply.body.aclose()


async def test_no_child_is_left(backend):
    pid = child_of(backend)
    await backend.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


async def test_adapters_are_loaded_found_used_and_dropped(backend):
    (address,) = backend.addresses
    a, b = (Adapter(name, str(MODEL / "adapters" / name)) for name in ("a", "b"))

    async def voice(adapter):
        question = request(messages=[{"role": "user", "content": QUESTIONS[0]}], temperature=0)
        asked = msgspec.structs.replace(question, adapter=adapter)
        reply = await backend.send(address, asked)
        answer = json.loads(b"".join([piece async for piece in reply.body]))
        return voice_of(answer["choices"][0]["message"]["content"])

    assert await backend.find_adapters(address, [a, b]) == frozenset()
    await backend.load_adapter(address, a)
    await backend.load_adapter(address, b)
    assert [await voice(one) for one in (a, None, b)] == ["a", "base", "b"]
    await backend.unload_adapter(address, a)
    assert not backend.has_adapter(address, a)
    assert backend.has_adapter(address, b)
    assert await backend.find_adapters(address, [a, b]) == {b}
    with pytest.raises(BackendError, match="'a' is not loaded") as caught:
        await voice(a)
    assert caught.value.stage is Stage.CONNECT


async def test_an_adapter_that_cannot_be_used_says_why(backend, tmp_path):
    (address,) = backend.addresses
    broken = Adapter("broken", str(tmp_path))
    with pytest.raises(BackendError, match=r"'broken' cannot be used: .* no LoRA") as caught:
        await backend.load_adapter(address, broken)
    assert caught.value.stage is Stage.CONNECT
    assert not backend.has_adapter(address, broken)


async def test_one_in_use_is_not_dropped(backend):
    (address,) = backend.addresses
    a = Adapter("a", str(MODEL / "adapters" / "a"))
    await backend.load_adapter(address, a)
    asked = msgspec.structs.replace(request(**LONG, stream=True), adapter=a)
    reply = await backend.send(address, asked)
    await anext(reply.body)
    with pytest.raises(BackendError, match="still used"):
        await backend.unload_adapter(address, a)
    assert await backend.find_adapters(address, [a]) == {a}
    await reply.body.aclose()
