"""Connections that fail, are slow, or speak something else."""

from __future__ import annotations

from tests.faults.outcomes import (
    BEFORE,
    HARMLESS,
    OUT_OF_TIME,
    SILENT,
    Cells,
    Own,
    Saved,
    before_content,
)
from tests.faults.table.answers import JSON, head
from tests.faults.table.row import both, either
from tests.support.upstream import (
    STREAM_HEAD,
    BeforeBody,
    Close,
    Drip,
    HalfClose,
    Pause,
    Reset,
    Send,
    Silence,
    StopReading,
    failing,
    response,
)

CONNECTION = {
    "refuse": both(lambda _: [(Close(),)], before_content(503, asked=0, tries=3), refuses=True),
    "close before headers": both(lambda _: [(Close(),)], BEFORE),
    "half-close before headers": both(lambda _: [(HalfClose(), Silence())], BEFORE),
    "reset before headers": both(lambda _: [(Reset(),)], BEFORE),
    "reset before the request is read": both(
        lambda _: [(BeforeBody(), Reset())], BEFORE, padding=4 << 20
    ),
    "stop reading": both(
        lambda _: [(BeforeBody(), StopReading(), Silence())],
        SILENT,
        OUT_OF_TIME,
        waits="first_token",
        padding=12 << 20,
    ),
    "reset after headers": either(
        lambda _: [(Send(STREAM_HEAD), Reset())],
        lambda _: [(Send(head(100)), Pause(0.01), Reset())],
        BEFORE,
    ),
    "silence": both(lambda _: [(Silence(),)], SILENT, OUT_OF_TIME, waits="first_token"),
    "slow headers, too slow": both(
        lambda _: [(Drip(STREAM_HEAD, 1, 0.05), Silence())],
        SILENT,
        OUT_OF_TIME,
        waits="first_token",
    ),
    "slow headers, in time": either(
        lambda speech: [(Drip(STREAM_HEAD, 8, 0.004), *speech.good[1:])],
        lambda speech: [(Drip(speech.answer[0].data, 8, 0.002),)],
        HARMLESS,
        keeps=True,
    ),
    "torn headers": both(lambda _: [(Send(b"HTTP/1.1 200 OK\r\ncontent-ty"), Close())], BEFORE),
    "no HTTP": both(lambda _: [(Send(b"SSH-2.0-OpenSSH_9.6\r\n"), Close())], BEFORE),
    "endless headers": both(
        lambda _: [(Send(b"HTTP/1.1 200 OK\r\nx: " + b"x" * 200_000), Silence())], BEFORE
    ),
    "two lengths": both(
        lambda _: [
            (Send(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n{}"), Close())
        ],
        BEFORE,
    ),
    "switch of protocols": both(
        lambda _: [(Send(b"HTTP/1.1 101 Switching\r\nupgrade: x\r\n\r\n"), Close())], BEFORE
    ),
    "early hints first": either(
        lambda speech: [(Send(b"HTTP/1.1 103 Early Hints\r\nlink: </x>\r\n\r\n"), *speech.good)],
        lambda speech: [(Send(b"HTTP/1.1 100 Continue\r\n\r\n"), *speech.answer)],
        HARMLESS,
        keeps=True,
    ),
    "bytes behind the answer": either(
        lambda speech: [(*speech.good, Send(response(200, b'{"model":"evil"}')))],
        lambda speech: [(Send(speech.answer[0].data + response(200, b'{"model":"evil"}', JSON)),)],
        HARMLESS,
    ),
    "flapping": either(
        lambda speech: [failing(500), speech.good] * 4,
        lambda speech: [failing(500), speech.answer] * 4,
        Cells(one=Own(asked=8), two=Saved(asked=None), fallback=Own(asked=8)),
        turns=4,
    ),
}
