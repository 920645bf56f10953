from __future__ import annotations

import logging
import os
import stat
import threading

import pytest

from backends.launch.engine_log import BoundedFile, EngineLog, log_file, state_folder


@pytest.mark.parametrize(
    ("env", "folder"),
    [
        ({"HOME": "/home/a"}, "/home/a/.local/state/llm-gateway"),
        ({"HOME": "/home/a", "XDG_STATE_HOME": "/state"}, "/state/llm-gateway"),
        ({"XDG_STATE_HOME": "/state", "STATE_DIRECTORY": "/var/lib/x:/y"}, "/var/lib/x"),
        ({"HOME": "/home/a", "XDG_STATE_HOME": "not/absolute"}, "/home/a/.local/state/llm-gateway"),
    ],
)
def test_files_of_the_gateways_own_are_where_the_system_wants_them(env, folder):
    assert str(state_folder(env)) == folder
    assert str(log_file("local@0", env)) == f"{folder}/logs/local@0.log"


def test_every_line_is_kept_and_prefixed_and_secrets_are_masked(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    log = EngineLog("local@0", tmp_path / "logs" / "l.log", ("hunter2-hunter2",))
    log("loaded with key hunter2-hunter2")
    log.close()
    log("too late")
    assert caplog.messages == ["local@0: loaded with key ***", "local@0: too late"]
    kept = (tmp_path / "logs" / "l.log").read_text()
    assert kept.endswith(" loaded with key ***\n")
    assert (tmp_path / "logs" / "l.log").stat().st_mode & 0o077 == 0


def test_a_chatty_engine_fills_its_file_and_not_our_log(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    now = [0.0]
    log = EngineLog("e@0", tmp_path / "l.log", (), clock=lambda: now[0])
    for number in range(1000):
        log(f"line {number}")
    assert len(caplog.messages) == 200
    now[0] = 1.0
    log("another")
    log.close()
    assert caplog.messages[200:] == [
        f"e@0: 800 lines are in {tmp_path / 'l.log'} only",
        "e@0: another",
    ]
    assert len((tmp_path / "l.log").read_text().splitlines()) == 1001


def test_what_is_passed_over_is_told_once_a_second(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    now = [0.0]
    log = EngineLog("e@0", tmp_path / "l.log", (), clock=lambda: now[0])
    for number in range(4000):  # a thousand a second
        now[0] = number / 1000
        log(f"line {number}")
    log.close()
    told = [message for message in caplog.messages if " lines are in " in message]
    assert 3 <= len(told) <= 5, "and once for the rest"
    lines = len(caplog.messages) - len(told)
    assert lines <= 200 + 4 * 20 + 20
    assert sum(int(message.split()[1]) for message in told) + lines == 4000


def test_the_file_is_bounded(tmp_path):
    file = BoundedFile(tmp_path / "l.log", size=100)
    for number in range(100):
        file.write(f"line {number:03}")
    file.close()
    kept = sorted(path.name for path in tmp_path.iterdir())
    assert kept == ["l.log", "l.log.1", "l.log.2", "l.log.3"]
    assert all(path.stat().st_size <= 100 for path in tmp_path.iterdir())
    assert (tmp_path / "l.log").read_text().splitlines()[-1] == "line 099"


def test_a_file_that_is_there_already_is_gone_on_with(tmp_path):
    for word in ("one", "two"):
        file = BoundedFile(tmp_path / "l.log")
        file.write(word)
        file.close()
    assert (tmp_path / "l.log").read_text() == "one\ntwo\n"


def test_a_place_that_cannot_be_written_costs_the_file_and_nothing_else(tmp_path, caplog):
    (tmp_path / "file").write_text("")
    log = EngineLog("e@0", tmp_path / "file" / "l.log", ())
    log("line")
    log.close()
    assert "no log of the engine is kept" in caplog.text


def test_every_level_that_is_made_is_ours_alone(tmp_path):
    BoundedFile(tmp_path / "a" / "b" / "logs" / "l.log").close()
    for level in ("a", "a/b", "a/b/logs"):
        assert stat.S_IMODE((tmp_path / level).stat().st_mode) == 0o700


def test_a_folder_that_others_may_write_to_is_not_used(tmp_path, caplog):
    (tmp_path / "logs").mkdir()
    (tmp_path / "logs").chmod(0o777)
    BoundedFile(tmp_path / "logs" / "l.log").close()
    assert "others may write to the folder" in caplog.text
    assert not list((tmp_path / "logs").iterdir())


def test_one_of_ours_on_a_volume_that_others_write_to_is(tmp_path):
    (tmp_path / "volume").mkdir()
    (tmp_path / "volume").chmod(0o777)
    BoundedFile(tmp_path / "volume" / "logs" / "l.log").close()
    assert (tmp_path / "volume" / "logs" / "l.log").exists()


def test_a_folder_of_another_user_is_not_used(tmp_path, caplog, monkeypatch):
    monkeypatch.setattr(os, "getuid", lambda: os.geteuid() + 1)
    BoundedFile(tmp_path / "l.log").close()
    assert "belongs to another user" in caplog.text
    assert not list(tmp_path.iterdir())


def test_a_link_in_the_place_of_a_log_is_not_followed(tmp_path, caplog):
    (tmp_path / "victim").write_text("")
    (tmp_path / "l.log").symlink_to(tmp_path / "victim")
    file = BoundedFile(tmp_path / "l.log")
    file.write("line")
    file.close()
    assert (tmp_path / "victim").read_text() == ""
    assert "no log of the engine is kept" in caplog.text


def test_two_of_one_path_lose_nothing_and_stay_bounded(tmp_path):
    """A reload has the old engine and the new one of a name write side by side."""
    first, second = (BoundedFile(tmp_path / "l.log", size=100) for _ in range(2))
    for number in range(16):
        (first, second)[number % 2].write(f"line {number:03}")
    first.close()
    second.close()
    files = [tmp_path / f"l.log{number}" for number in ("", ".1", ".2", ".3")]
    assert all(file.stat().st_size <= 100 for file in files if file.exists())
    lines = [line for file in files if file.exists() for line in file.read_text().splitlines()]
    assert sorted(lines) == [f"line {number:03}" for number in range(16)]


def test_closed_while_it_is_written_to_it_writes_nowhere_else(tmp_path):
    file = BoundedFile(tmp_path / "l.log", size=1000)
    writing = threading.Thread(target=lambda: [file.write("line") for _ in range(20000)])
    writing.start()
    file.close()
    other = os.open(tmp_path / "other", os.O_CREAT | os.O_WRONLY)  # it gets the same number
    writing.join()
    os.close(other)
    assert (tmp_path / "other").read_text() == ""
