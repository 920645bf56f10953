import asyncio

import pytest

from backends.base import BackendError
from backends.inprocess.work import Work, at_once


async def test_whoever_has_gone_is_told_nothing():
    result = asyncio.get_running_loop().create_future()
    work = Work("MLX", at_once(lambda runtime: 1), result)
    result.cancel()
    work.advance(None)()
    assert result.cancelled()


async def test_the_outcome_is_told_when_it_is_settled_and_not_before():
    work = Work("MLX", at_once(lambda runtime: 7), asyncio.get_running_loop().create_future())
    settle = work.advance(None)
    assert not work.result.done()
    settle()
    assert await work.result == 7


async def test_more_than_a_piece():
    def pieces(runtime):
        yield
        yield
        return runtime

    work = Work("MLX", pieces, asyncio.get_running_loop().create_future())
    assert work.advance(3) is None
    assert work.advance(3) is None
    work.advance(3)()
    assert await work.result == 3


async def test_an_error_without_words_is_named():
    def broken(runtime):
        raise MemoryError

    work = Work("MLX", at_once(broken), asyncio.get_running_loop().create_future())
    work.advance(None)()
    with pytest.raises(BackendError, match="MemoryError"):
        await work.result
