from __future__ import annotations

import asyncio
import ssl

import httpx
import pytest

from backends.transport.dial import Origin, dial


class Owner:
    def release(self, connection):
        pass

    def lost(self, connection):
        pass


@pytest.mark.parametrize(
    ("origin", "text"),
    [
        (Origin("engine", 8000), "engine:8000"),
        (Origin("::1", 8000), "[::1]:8000"),
        (Origin("localhost", 80, path="/run/e.sock"), "unix:/run/e.sock"),
    ],
)
def test_an_origin_is_named_as_its_owner_would(origin, text):
    assert str(origin) == text


async def test_an_unknown_name_says_whose_it_is():
    with pytest.raises(httpx.ConnectError, match=r"no connection to no-such\.invalid:1: \w"):
        await dial(Origin("no-such.invalid", 1), Owner(), 5, None)


async def test_a_name_that_cannot_be_one_is_an_error_of_connecting():
    with pytest.raises(httpx.ConnectError):
        await dial(Origin("a" * 300, 1), Owner(), 5, None)


async def test_a_file_that_is_no_socket_is_an_error_of_connecting(tmp_path):
    path = tmp_path / "file"
    path.touch()
    with pytest.raises(httpx.ConnectError, match=f"unix:{path}"):
        await dial(Origin("localhost", 80, path=str(path)), Owner(), 5, None)


async def test_cancelling_leaves_no_socket(start_peer, step):
    async with start_peer([step.HANG]) as peer:
        port = int(peer.url.rsplit(":", 1)[1])
        tls = ssl.create_default_context()
        dialing = asyncio.create_task(dial(Origin("127.0.0.1", port, True), Owner(), None, tls))
        async with asyncio.timeout(2):
            while not peer.open:
                await asyncio.sleep(0.005)
        dialing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await dialing
        await asyncio.wait_for(peer.hung_up.wait(), 2)
