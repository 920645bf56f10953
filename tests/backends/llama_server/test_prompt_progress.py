import pytest

from backends.base import BackendError
from backends.llama_server.prompt_progress import WithoutProgress
from backends.sse import MAX_EVENT

ROLE = b'data: {"choices":[{"delta":{"role":"assistant"}}]}\n\n'
REPORT = b'data: {"choices":[{"delta":{"role":"assistant"}}],"prompt_progress":{"total":9}}\n\n'
TEXT = b'data: {"choices":[{"delta":{"content":"\\"prompt_progress\\": 1"}}]}\n\n'
COMMENT = b":\n\n"


@pytest.fixture
def passed(stream_of):
    async def passed(*pieces: bytes) -> list[bytes]:
        return [piece async for piece in WithoutProgress(stream_of(*pieces))]

    return passed


async def test_reports_are_left_out_and_the_rest_passes_as_it_comes(passed):
    assert await passed(REPORT, REPORT, ROLE, TEXT, TEXT) == [ROLE, TEXT, TEXT]


async def test_a_report_in_one_piece_with_what_follows(passed):
    assert await passed(REPORT + REPORT + ROLE + TEXT) == [ROLE + TEXT]


@pytest.mark.parametrize("at", range(1, len(REPORT + ROLE + TEXT)))
async def test_cut_anywhere(passed, at):
    whole = REPORT + ROLE + TEXT
    assert b"".join(await passed(whole[:at], whole[at:])) == ROLE + TEXT


async def test_text_that_talks_of_reports_is_text(passed):
    assert await passed(TEXT) == [TEXT]


async def test_comments_between_reports_are_no_answer(passed):
    assert b"".join(await passed(COMMENT, REPORT, COMMENT, ROLE)) == ROLE


@pytest.mark.parametrize("last", [ROLE[:-1], ROLE[:-2], b"data: {torn"])
async def test_a_last_event_without_its_blank_line_is_not_lost(passed, last):
    assert await passed(last) == [last]
    assert await passed(REPORT, last[:5], last[5:]) == [last]
    assert await passed(ROLE + last) == [ROLE + last]


async def test_a_last_report_without_its_blank_line_is_left_out(passed):
    assert await passed(REPORT, REPORT[:-1]) == []


async def test_closing_closes_the_stream_below(stream_of):
    pieces = stream_of(REPORT)
    await WithoutProgress(pieces).aclose()
    assert pieces.closed


async def test_an_event_without_end_is_an_error(passed):
    with pytest.raises(BackendError, match="16 MiB"):
        await passed(b"data: " + b"x" * MAX_EVENT)
