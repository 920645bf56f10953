import asyncio
import signal
import stat

import msgspec
import pytest

from backends.isolation.options import read_options, write_options
from backends.options import MlxOptions
from tests.backends.isolation.conftest import run_child


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
