import asyncio
import json
import signal
import stat

import msgspec
import pytest

from backends.base import Endpoint, Request
from backends.isolation.options import read_options, write_options
from backends.options import MlxOptions
from tests.backends.isolation.conftest import run_child

BROKEN = """
import sys
from backends.isolation import child
from backends.mlx.runtime import MlxRuntime

def lost(_):
    raise RuntimeError("the device is lost")

MlxRuntime.step = MlxRuntime.reset = lost
sys.exit(child.main(sys.argv[1:]))
"""
"""A child whose engine cannot generate, nor begin anew."""


def test_options_come_through_as_they_are():
    options = MlxOptions(model="a/b", max_batch=3)
    assert read_options(write_options(options)) == options


def test_options_of_no_engine_are_refused():
    with pytest.raises(msgspec.ValidationError):
        read_options('{"use":"abacus"}')


@pytest.mark.slow
async def test_a_model_that_is_not_there_is_the_last_word(tmp_path):
    async with run_child(tmp_path, model=str(tmp_path / "nothing")) as child:
        _, said = await asyncio.wait_for(child.process.communicate(), 30)
    assert child.process.returncode == 1
    assert "nothing" in said.decode().splitlines()[-1]


@pytest.mark.slow
async def test_its_socket_is_its_users_own_and_sigterm_ends_it(child, tmp_path):
    assert stat.S_IMODE((tmp_path / "engine.sock").stat().st_mode) == 0o600
    child.process.send_signal(signal.SIGTERM)
    await asyncio.wait_for(child.process.wait(), 10)


@pytest.mark.slow
async def test_it_leaves_when_its_engine_has_died_and_whoever_asked_is_told(tmp_path):
    async with run_child(tmp_path, program=("-c", BROKEN)) as child:
        await child.until_ready()
        body = json.dumps({"prompt": "Once", "max_tokens": 4}).encode()
        reply = await child.send(Request(endpoint=Endpoint.COMPLETIONS, body=body))
        error = json.loads(b"".join([piece async for piece in reply.body]))
        assert "the device is lost" in error["error"]["message"]
        assert not error["refused"]
        _, said = await asyncio.wait_for(child.process.communicate(), 30)
    assert child.process.returncode == 1
    assert "thread died: RuntimeError('the device is lost')" in said.decode().splitlines()[-1]
