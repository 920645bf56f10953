from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from backends.launch.run_folder import RunFolder, identity, reap
from backends.process import ChildProcess, Ended

SLEEP = ("sleep", "600")


@pytest.fixture
def sleeper():
    child = subprocess.Popen(SLEEP, start_new_session=True)
    yield child
    child.kill()
    child.wait()


def test_a_folder_is_ours_alone_and_gone_when_closed(tmp_path):
    folder = RunFolder(tmp_path)
    assert folder.path.stat().st_mode & 0o077 == 0
    (folder.path / "0-1.sock").touch()
    folder.close()
    folder.close()
    assert not folder.path.exists()


def test_what_belongs_to_a_gateway_that_lives_is_left_alone(tmp_path, sleeper):
    folder = RunFolder(tmp_path)
    folder.note(sleeper.pid)
    assert reap(tmp_path) == []
    assert folder.path.exists()
    assert sleeper.poll() is None
    folder.close()


def abandon(folder: RunFolder) -> None:
    """As the death of its process would."""
    os.close(folder._lock)
    folder._lock = -1


def test_an_engine_that_a_dead_gateway_has_left_is_killed(tmp_path, sleeper):
    folder = RunFolder(tmp_path)
    folder.note(sleeper.pid)
    abandon(folder)
    assert reap(tmp_path) == [sleeper.pid]
    assert sleeper.wait(10) == -9
    assert not folder.path.exists()


async def test_so_is_one_that_was_noted_as_soon_as_it_was_started(tmp_path):
    """It is still the tether's copy then, about to become the engine."""
    folder = RunFolder(tmp_path)
    child = ChildProcess(SLEEP)
    await child.start()
    try:
        assert child.pid is not None
        folder.note(child.pid)
        await until_it_runs(child.pid, SLEEP)
        abandon(folder)
        assert reap(tmp_path) == [child.pid]
        async with asyncio.timeout(10):
            assert await child.wait() == Ended(signal=9)
    finally:
        await child.stop()


async def until_it_runs(pid, command):
    async with asyncio.timeout(10):
        while Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0] != command[0].encode():
            await asyncio.sleep(0.01)


def test_another_process_that_has_got_its_number_is_not(tmp_path, sleeper):
    folder = RunFolder(tmp_path)
    (folder.path / f"{sleeper.pid}.pid").write_text("1 llama-server --host x")
    (folder.path / "1.pid").write_text(identity(1))
    (folder.path / "none.pid").write_text("nonsense")
    abandon(folder)
    assert reap(tmp_path) == []
    assert sleeper.poll() is None


def test_one_that_was_forgotten_is_not(tmp_path, sleeper):
    folder = RunFolder(tmp_path)
    folder.note(sleeper.pid)
    folder.forget(sleeper.pid)
    folder.forget(sleeper.pid)
    abandon(folder)
    assert reap(tmp_path) == []
    assert sleeper.poll() is None


def test_a_path_too_long_for_a_socket_is_not_used(tmp_path, monkeypatch):
    long = tmp_path / ("x" * 64)
    long.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(long))
    folder = RunFolder()
    assert len(str(folder.path / "63-1000.sock")) < 104
    folder.close()


def test_a_folder_that_is_just_being_made_is_left_alone(tmp_path):
    (tmp_path / "llm-gateway-abc").mkdir()
    assert reap(tmp_path) == []
    assert (tmp_path / "llm-gateway-abc").exists()


def test_a_process_that_is_not_there_has_no_identity():
    assert identity(2**22 + 1) == ""
    assert identity(os.getpid())


async def test_a_killed_gateway_gives_its_lock_back(tmp_path):
    script = (
        "import sys, time; from pathlib import Path; from backends.launch.run_folder import *;"
        "folder = RunFolder(Path(sys.argv[1])); print('made', flush=True); time.sleep(600)"
    )
    root = Path(__file__).parents[3]
    owner = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, cwd=root
    )
    assert owner.stdout is not None
    await asyncio.to_thread(owner.stdout.readline)
    reap(tmp_path)
    assert len(list(tmp_path.iterdir())) == 1
    owner.kill()
    owner.wait()
    owner.stdout.close()
    reap(tmp_path)
    assert not list(tmp_path.iterdir())
