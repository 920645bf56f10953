import asyncio

import pytest

from backends.base import BackendError
from backends.inprocess.work import Work


async def test_whoever_has_gone_is_told_nothing():
    result = asyncio.get_running_loop().create_future()
    work = Work("MLX", lambda runtime: 1, result)
    result.cancel()
    work.call(None)()
    assert result.cancelled()


async def test_the_outcome_is_told_when_it_is_settled_and_not_before():
    work = Work("MLX", lambda runtime: 7, asyncio.get_running_loop().create_future())
    settle = work.call(None)
    assert not work.result.done()
    settle()
    assert await work.result == 7


async def test_an_error_without_words_is_named():
    def broken(runtime):
        raise MemoryError

    work = Work("MLX", broken, asyncio.get_running_loop().create_future())
    work.call(None)()
    with pytest.raises(BackendError, match="MemoryError"):
        await work.result
