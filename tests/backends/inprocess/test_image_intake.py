from __future__ import annotations

import asyncio
import threading

import pytest

from backends.base import RequestRefused
from backends.inprocess import image_intake
from backends.inprocess.image_intake import ImageIntake
from backends.inprocess.image_parts import ImagePart
from backends.options import Images
from tests.support.pictures import data_url, plain


def intake(max_waiting=1, queue_timeout=5.0, **options):
    return ImageIntake(Images(**options), max_waiting=max_waiting, queue_timeout=queue_timeout)


def read(intake, images):
    return intake.look(images, list)


def images(*files):
    return [ImagePart(f"image[{at}]", data_url(one)) for at, one in enumerate(files)]


async def refused(awaitable):
    with pytest.raises(RequestRefused) as caught:
        await awaitable
    return caught.value


async def test_pictures_come_in_the_order_of_their_parts():
    red, blue = await read(intake(), images(plain("red"), plain("blue")))
    assert red.pixels.getpixel((0, 0)) == (255, 0, 0)
    assert blue.pixels.getpixel((0, 0)) == (0, 0, 255)


async def test_too_many_are_refused_before_any_is_decoded():
    error = await refused(read(intake(max_per_request=2), images(b"", b"", b"")))
    assert (error.param, error.code) == ("messages", "array_above_max_length")
    assert "3 images" in error.message
    assert "may have 2" in error.message


async def test_the_one_at_fault_is_named():
    error = await refused(read(intake(), images(plain(), b"no")))
    assert error.param == "image[1]"


async def test_all_pictures_of_a_request_share_the_pixels(monkeypatch):
    monkeypatch.setattr(image_intake, "MAX_PIXELS", 1500)
    error = await refused(read(intake(), images(plain(), plain(size=(16, 30)))))
    assert (error.param, error.code) == ("image[1]", "image_too_large")
    assert "476 of them are left" in error.message


async def test_a_url_that_may_not_be_fetched():
    error = await refused(read(intake(), [ImagePart("image[0]", "https://example.com/a.png")]))
    assert (error.param, error.code) == ("image[0]", "invalid_image_url")


class Slow:
    """Holds up whoever makes something of pictures."""

    def __init__(self):
        self.go_on = threading.Event()
        self.running = self.most = 0

    def make(self, pictures):
        self.running += 1
        self.most = max(self.most, self.running)
        self.go_on.wait(10)
        self.running -= 1
        raise RequestRefused(400, "no")

    async def until_running(self, count):
        while self.running < count:
            await asyncio.sleep(0.005)


@pytest.fixture
def slow():
    one = Slow()
    yield one
    one.go_on.set()


async def test_decoding_counts_until_its_thread_is_done(slow):
    """A request that is cancelled does not stop the thread that decodes for it."""
    one = intake(max_waiting=9)
    left = [asyncio.create_task(one.look(images(plain()), slow.make)) for _ in range(6)]
    await slow.until_running(4)
    for task in left:
        task.cancel()
    await asyncio.gather(*left, return_exceptions=True)
    late = asyncio.create_task(one.look(images(plain()), slow.make))
    await asyncio.sleep(0.02)
    assert slow.running == 4
    slow.go_on.set()
    assert (await refused(late)).status == 400
    assert slow.most == 4


async def test_those_who_wait_are_bounded(slow):
    one = intake(max_waiting=1)
    here = [asyncio.create_task(one.look(images(plain()), slow.make)) for _ in range(5)]
    await slow.until_running(4)
    async with asyncio.timeout(5):
        while not one.waiting:
            await asyncio.sleep(0.005)
    full = await refused(read(one, images(plain())))
    assert (full.status, full.code) == (429, "engine_overloaded")
    assert full.retry_after
    slow.go_on.set()
    await asyncio.gather(*here, return_exceptions=True)
    assert len(await read(one, images(plain()))) == 1


async def test_who_waits_too_long_is_sent_away(slow):
    one = intake(max_waiting=9, queue_timeout=0.01)
    here = [asyncio.create_task(one.look(images(plain()), slow.make)) for _ in range(4)]
    await slow.until_running(4)
    assert (await refused(read(one, images(plain())))).status == 429
    slow.go_on.set()
    await asyncio.gather(*here, return_exceptions=True)
    assert len(await read(one, images(plain()))) == 1


async def test_a_large_picture_has_the_pixels_to_itself(slow, monkeypatch):
    monkeypatch.setattr(image_intake, "MAX_PIXELS", 2048)
    one = intake(max_waiting=9)
    small, large = images(plain(size=(32, 32))), images(plain(size=(32, 64)))
    here = [asyncio.create_task(one.look(small, slow.make)) for _ in range(2)]
    await slow.until_running(2)
    here.append(asyncio.create_task(one.look(large, slow.make)))
    async with asyncio.timeout(5):
        while not one.waiting:
            await asyncio.sleep(0.005)
    slow.go_on.set()
    await asyncio.gather(*here, return_exceptions=True)
    slow.go_on.clear()
    slow.most = 0
    here = [asyncio.create_task(one.look(each, slow.make)) for each in (large, large, small)]
    await slow.until_running(1)
    async with asyncio.timeout(5):
        while one.waiting < 2:
            await asyncio.sleep(0.005)
    assert slow.running == 1
    slow.go_on.set()
    await asyncio.gather(*here, return_exceptions=True)
    assert one.waiting == 0
    assert one.waited > 0


async def test_few_fetch_at_a_time_and_hold_up_nobody_who_brings_images():
    asked = 0

    async def host(reader, writer):
        """Takes a request, and never answers."""
        nonlocal asked
        asked += 1
        await reader.read()
        writer.close()

    async with await asyncio.start_server(host, "127.0.0.1", 0) as server:
        where = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
        one = intake(max_waiting=1, fetch_from=(where,))
        part = ImagePart("image[0]", f"http://{where}/a.png")
        fetching = [asyncio.create_task(read(one, [part])) for _ in range(5)]
        async with asyncio.timeout(5):
            while asked < 4:
                await asyncio.sleep(0.005)
        full = await refused(read(one, [part]))
        assert (full.status, full.code) == (429, "engine_overloaded")
        assert len(await read(one, images(plain()))) == 1
        fetching[0].cancel()
        async with asyncio.timeout(5):
            while asked < 5:
                await asyncio.sleep(0.005)
        for task in fetching:
            task.cancel()
        await asyncio.gather(*fetching, return_exceptions=True)
