"""The bytes of pictures that wait have a bound, and come back with their holders."""

import asyncio
import contextlib
import gc
import json
import threading

import pytest

from backends.base import BackendError, Endpoint, Request
from backends.inprocess.backend import ADDRESS
from backends.mlx.backend import MlxBackend
from backends.mlx.vision import looking
from backends.mlx.vision.room import Room
from backends.options import MlxOptions
from tests.support.pictures import data_url, part, plain, user
from tests.support.until import until

LONG = {"max_tokens": 400, "ignore_eos": True}
"""Far longer than a test watches."""


class Holder:
    """Something that can be forgotten."""


def test_what_does_not_fit_is_refused_and_takes_nothing():
    room, holder = Room(10), Holder()
    assert room.take((holder, 6))
    assert not room.take((holder, 5))
    assert room.free == 4


def test_it_comes_back_when_the_holder_is_gone():
    room, holder = Room(10), Holder()
    assert room.take((holder, 10))
    del holder
    assert room.free == 10


def test_several_get_all_or_nothing_and_leave_one_by_one():
    room, one, other = Room(10), Holder(), Holder()
    assert not room.take((one, 6), (other, 5))
    assert room.free == 10
    assert room.take((one, 6), (other, 4))
    del one
    assert room.free == 6


def test_threads_never_get_more_than_there_is():
    room, kept = Room(100), []

    def take_all():
        for _ in range(100):
            holder = Holder()
            if room.take((holder, 1)):
                kept.append(holder)

    threads = [threading.Thread(target=take_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 100
    assert room.free == 0
    kept.clear()
    assert room.free == 100


@contextlib.contextmanager
def no_collector():
    """What is let go of here is let go of by whoever had it."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextlib.asynccontextmanager
async def opened(directory, **options):
    backend = MlxBackend("eyes", MlxOptions(model=str(directory), context=600, **options))
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


def asked(*colours, **fields):
    pictures = [part(data_url(plain(colour))) for colour in colours]
    messages = [user("Look: ", *pictures, " What is it?")]
    body = {"model": "eyes", "messages": messages, "stream": True, **LONG, **fields}
    return Request(endpoint=Endpoint.CHAT, body=json.dumps(body).encode(), stream=True)


def held(backend):
    room = backend._runtime.prompts._room
    return room.nbytes - room.free


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["idefics3", "qwen2_5_vl"])
async def test_nothing_is_held_of_what_has_been_looked_at_while_it_is_talked_about(
    vision_dir, kind
):
    async with opened(vision_dir(kind), max_batch=4) as backend:
        with no_collector():
            reply = await backend.send(ADDRESS, asked("red", "blue", n=3))
            await until(lambda: held(backend) == 0)
            assert backend.load(ADDRESS).running == 3
            again = await backend.send(ADDRESS, asked("red", "blue"))  # from the prompt cache
            await until(lambda: held(backend) == 0)
            assert backend.load(ADDRESS).running == 4
            await reply.body.aclose()
            await again.body.aclose()


@pytest.mark.slow
async def test_choices_that_wait_hold_their_pictures_until_they_have_looked(vision_dir):
    async with opened(vision_dir("idefics3"), max_batch=1) as backend:
        with no_collector():
            first = await backend.send(ADDRESS, asked("red", n=2))
            assert backend.load(ADDRESS).waiting == 1
            assert held(backend) > 0
            await first.body.aclose()
            await until(lambda: held(backend) == 0)


@pytest.mark.slow
async def test_who_gives_up_before_a_look_takes_the_pictures_along(vision_dir):
    async with opened(vision_dir("idefics3"), max_batch=1) as backend:
        with no_collector():
            first = await backend.send(ADDRESS, asked("red"))
            waiting = asyncio.create_task(backend.send(ADDRESS, asked("blue")))
            await until(lambda: held(backend) > 0 and backend.load(ADDRESS).waiting == 1)
            waiting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await waiting
            del waiting
            await until(lambda: held(backend) == 0)
            await first.body.aclose()


@pytest.mark.slow
async def test_a_look_that_fails_leaves_nothing_behind(vision_dir, monkeypatch):
    # Pytest keeps what is logged, with the calls that an exception went through.
    monkeypatch.setattr(looking.logger, "disabled", True)
    async with opened(vision_dir("idefics3")) as backend:

        def blind(image):
            raise RuntimeError(f"cannot see {len(image.tokens)} tokens")

        backend._runtime._model.look_at = blind
        with no_collector():
            with pytest.raises(BackendError, match="could not be looked at"):
                await backend.send(ADDRESS, asked("red", "blue", n=2))
            await until(lambda: held(backend) == 0)
            assert backend.load(ADDRESS).running == 0


@pytest.mark.slow
async def test_who_waits_for_a_turn_to_have_pictures_read_is_seen_to_wait(vision_dir):
    async with opened(vision_dir("idefics3")) as backend:
        turns = backend._intake._decoding
        taken = await turns.take(1 << 40)
        waiting = asyncio.create_task(backend.send(ADDRESS, asked("red")))
        await until(lambda: backend.load(ADDRESS).waiting == 1)
        assert held(backend) == 0
        turns.give(taken)
        reply = await waiting
        load = backend.load(ADDRESS)
        assert (load.waiting, load.running) == (0, 1)
        assert load.waited > 0
        await reply.body.aclose()
