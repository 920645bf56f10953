import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from backends.base import Endpoint
from gateway.telemetry.access_log import AccessLog
from gateway.telemetry.record import RequestRecord


def record(**known: object) -> RequestRecord:
    fields: dict[str, object] = {
        "request_id": "r-1",
        "endpoint": Endpoint.CHAT,
        "started": 100.0,
        "started_at": 1_700_000_000.25,
        "model": "gpt-4o-mini",
        "status": 200,
        "ended_at": 101.5,
    }
    return RequestRecord(**(fields | known))  # type: ignore[arg-type]


def wait_for(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.005)


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    reader, writer = os.pipe()
    yield reader, writer
    for descriptor in (reader, writer):
        try:
            os.close(descriptor)
        except OSError:
            continue


def test_a_line_says_what_happened_and_leaves_out_what_is_not_known(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = AccessLog(file.fileno())
        log.start()
        log.write(record())
        log.write(
            record(
                route="assistant",
                variant="canary",
                replica="http://a:1",
                principal="alice",
                stream=True,
                attempts=2,
                first_token_at=100.125,
                input_tokens=3,
                output_tokens=9,
                cached_tokens=2,
                bytes_out=512,
                cause="reset",
                client_gone=True,
                trace_id="ab" * 16,
            )
        )
        log.stop()
    short, full = [json.loads(line) for line in (tmp_path / "log").read_bytes().splitlines()]
    assert short == {
        "time": "2023-11-14T22:13:20.250000Z",
        "request_id": "r-1",
        "endpoint": "chat/completions",
        "model": "gpt-4o-mini",
        "status": 200,
        "duration_ms": 1500.0,
    }
    assert full == short | {
        "route": "assistant",
        "variant": "canary",
        "replica": "http://a:1",
        "key": "alice",
        "stream": True,
        "attempts": 2,
        "first_token_ms": 125.0,
        "input_tokens": 3,
        "output_tokens": 9,
        "cached_tokens": 2,
        "bytes_out": 512,
        "cause": "reset",
        "client_gone": True,
        "trace_id": "ab" * 16,
    }


def test_a_name_cannot_break_out_of_its_line(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as file:
        log = AccessLog(file.fileno())
        log.start()
        log.write(record(model='x"}\n{"status": 500}\u2028' + "y" * 10_000))
        log.stop()
    (line,) = (tmp_path / "log").read_bytes().splitlines()
    assert json.loads(line)["status"] == 200
    assert len(json.loads(line)["model"]) == 128


def test_lines_are_written_without_being_asked(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    log = AccessLog(writer, interval=0.001)
    log.start()
    for number in range(3):
        log.write(record(request_id=f"r-{number}"))
        assert json.loads(os.read(reader, 65536))["request_id"] == f"r-{number}"
    log.stop()


def test_a_reader_that_stalls_costs_lines_but_neither_memory_nor_time(
    pipe: tuple[int, int],
) -> None:
    reader, writer = pipe
    log = AccessLog(writer, interval=0.001, capacity=100_000)
    log.start()
    for _ in range(5_000):
        log.write(record())
    wait_for(lambda: log._appended - log._taken > 0)
    kept = 5_000 - log.dropped
    assert log.dropped > 0
    assert log._appended - log._taken <= 100_000
    log.stop(timeout=0.05)
    assert log._thread is not None
    assert log._thread.is_alive(), "it still waits for the reader"

    read = b""
    while read.count(b"\n") < kept:
        read += os.read(reader, 65536)
    log._thread.join(10)
    assert not log._thread.is_alive()
    assert [json.loads(line)["status"] for line in read.splitlines()] == [200] * kept


def test_a_reader_that_left_costs_lines_and_one_warning(
    pipe: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipe
    os.close(reader)
    log = AccessLog(writer, interval=0.001)
    log.start()
    with caplog.at_level(logging.WARNING):
        for number in range(1, 4):
            log.write(record())
            wait_for(lambda number=number: log.dropped == number)
    log.stop()
    assert len(caplog.records) == 1
    assert "Broken pipe" in caplog.text


def test_it_goes_on_when_the_descriptor_works_again(
    pipe: tuple[int, int], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    reader, writer = pipe
    os.close(reader)
    log = AccessLog(writer, interval=0.001)
    log.start()
    log.write(record())
    wait_for(lambda: log.dropped == 1)
    with (tmp_path / "log").open("wb") as file:
        os.dup2(file.fileno(), writer)
        log.write(record(request_id="again"))
        log.stop()
    assert json.loads((tmp_path / "log").read_bytes())["request_id"] == "again"
    assert "1 lines are lost" in caplog.text


def test_a_descriptor_that_does_not_block_is_waited_for(pipe: tuple[int, int]) -> None:
    reader, writer = pipe
    fcntl.fcntl(writer, fcntl.F_SETFL, os.O_NONBLOCK)
    log = AccessLog(writer, interval=0.001)
    log.start()
    for _ in range(2_000):
        log.write(record())
    read = b""
    while read.count(b"\n") < 2_000:
        read += os.read(reader, 65536)
    log.stop()
    assert log.dropped == 0


def test_stopping_twice_or_without_a_start_is_fine(pipe: tuple[int, int]) -> None:
    log = AccessLog(pipe[1])
    log.stop()
    log.stop()
    assert not [thread for thread in threading.enumerate() if thread.name == "access-log"]
