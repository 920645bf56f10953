from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest

from backends.process import ChildProcess, Ended, ProcessError
from tests.support.children import wait_until

SLEEP = ("sleep", "600")


def sh(script: str) -> tuple[str, ...]:
    return ("sh", "-c", script)


def python(script: str) -> tuple[str, ...]:
    return (sys.executable, "-u", "-c", textwrap.dedent(script))


def runs(pid: int) -> bool:
    """Whether there is such a process that is not a zombie."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


async def said(lines: list[str], text: str) -> str:
    async with asyncio.timeout(20):
        while True:
            for line in tuple(lines):
                if text in line:
                    return line
            await asyncio.sleep(0.01)


async def test_output_and_exit_code():
    lines: list[str] = []
    child = ChildProcess(sh("echo out; echo err >&2; exit 3"), log=lines.append)
    await child.start()
    assert await child.wait() == Ended(code=3)
    await child.stop()
    assert lines == ["out", "err"]
    assert child.last_lines == ("out", "err")
    assert str(child.ended) == "ended with exit code 3"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has signals without a name")
async def test_whoever_waits_for_its_end_has_its_last_words():
    child = ChildProcess(sh("echo loading; echo no such model >&2"), log=lambda _: time.sleep(0.1))
    await child.start()
    await child.wait()
    assert child.last_lines == ("loading", "no such model")
    await child.stop()


async def test_a_signal_without_a_name_is_told_by_its_number():
    child = ChildProcess(sh("kill -40 $$"))
    await child.start()
    async with asyncio.timeout(10):
        assert str(await child.wait()) == "was ended by signal 40"
    await child.stop()


async def test_a_child_that_is_killed_is_noticed_at_once_and_told_by_name():
    child = ChildProcess(SLEEP)
    await child.start()
    assert child.pid is not None
    assert child.ended is None
    os.kill(child.pid, signal.SIGKILL)
    async with asyncio.timeout(5):
        assert str(await child.wait()) == "was ended by SIGKILL"
    await child.stop()


async def test_the_environment_is_what_was_given_and_the_tether_changes_nothing_of_it():
    lines: list[str] = []
    script = "import os, signal; print(sorted(os.environ), signal.getsignal(signal.SIGPIPE))"
    child = ChildProcess(
        (sys.executable, "-c", f"{script}; print(open('/proc/self/stat').read().split()[4])"),
        env={"PYTHONPATH": "x", "LC_ALL": "C.UTF-8"},
        log=lines.append,
    )
    await child.start()
    await child.wait()
    await child.stop()
    assert "'PYTHONPATH'" in lines[0]
    assert lines[1] == str(child.pid), "it does not lead its own group"


async def test_the_command_starts_with_default_signals():
    lines: list[str] = []
    child = ChildProcess(sh("grep -E 'Sig(Ign|Blk)' /proc/self/status"), log=lines.append)
    await child.start()
    await child.wait()
    await child.stop()
    # Python lets nobody touch those that the C library keeps to itself.
    named = sum(1 << (number - 1) for number in signal.valid_signals())
    assert [int(line.split()[1], 16) & named for line in lines] == [0, 0]


async def test_sigterm_gives_it_its_grace():
    lines: list[str] = []
    child = ChildProcess(
        sh("trap 'echo bye; exit 7' TERM; echo up; while :; do sleep 0.05; done"), log=lines.append
    )
    await child.start()
    await said(lines, "up")
    await child.stop()
    assert child.ended == Ended(code=7)
    assert lines == ["up", "bye"]


async def test_one_that_does_not_obey_is_killed():
    lines: list[str] = []
    child = ChildProcess(
        sh("trap '' TERM; echo up; while :; do sleep 0.05; done"),
        log=lines.append,
        stop_timeout=0.1,
    )
    await child.start()
    await said(lines, "up")
    await child.stop()
    assert child.pid is not None
    assert not runs(child.pid)


async def test_one_that_is_held_still_is_stopped_all_the_same():
    child = ChildProcess(SLEEP, stop_timeout=5)
    await child.start()
    child.send_signal(signal.SIGSTOP)
    await child.stop()
    assert child.ended == Ended(signal=signal.SIGTERM)


FAMILY = """
    import os, subprocess, sys, time
    same = subprocess.Popen(["sleep", "600"])
    other = subprocess.Popen(["setsid", "sh", "-c", "echo $$; exec sleep 600"], stdout=2)
    print("family", same.pid, other.pid)
    {then}
"""


@pytest.mark.parametrize("then", ["os._exit(1)", "time.sleep(600)"])
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux hands orphans to the tether")
async def test_what_it_has_started_goes_with_it_even_out_of_its_group(then):
    lines: list[str] = []
    child = ChildProcess(python(FAMILY.format(then=then)), log=lines.append)
    await child.start()
    family = [int(pid) for pid in (await said(lines, "family")).split()[1:]]
    if "exit" in then:
        assert await child.wait() == Ended(code=1)
    await child.stop()
    assert not any(map(runs, family))


async def test_killing_the_tether_takes_the_command_along():
    child = ChildProcess(SLEEP)
    await child.start()
    assert child.pid is not None
    assert child._tether is not None
    child._tether.kill()
    async with asyncio.timeout(10):
        assert await child.wait() == Ended()
    await child.stop()
    await asyncio.to_thread(lambda: wait_until(lambda: not runs(child.pid), 5, "it still runs"))


async def test_the_gateway_killed_with_minus_nine_leaves_nothing(tmp_path):
    script = """
        import asyncio, sys
        from backends.process import ChildProcess
        async def main():
            child = ChildProcess(["sh", "-c", "sleep 600 & echo $! $$; wait"], log=print)
            await child.start()
            await asyncio.sleep(600)
        asyncio.run(main())
    """
    owner = subprocess.Popen(
        python(script), stdout=subprocess.PIPE, cwd=Path(__file__).parents[2], text=True
    )
    assert owner.stdout is not None
    pids = [int(pid) for pid in owner.stdout.readline().split()]
    assert all(map(runs, pids))
    owner.kill()
    owner.wait()
    owner.stdout.close()
    wait_until(lambda: not any(map(runs, pids)), 10, "children outlive their owner")


async def test_a_command_that_is_not_there():
    child = ChildProcess(("/no/such/command",))
    await child.start()
    assert await child.wait() == Ended(code=127)
    await child.stop()
    assert child.last_lines == ("cannot run /no/such/command: No such file or directory",)


async def test_a_directory_that_is_not_there():
    with pytest.raises(ProcessError, match="No such file"):
        await ChildProcess(SLEEP, cwd=Path("/no/such/place")).start()


async def test_a_line_without_end_and_a_log_that_fails_hold_nobody_up():
    def full(_line: str) -> None:
        raise OSError("no space left on device")

    child = ChildProcess(python("print('x' * 5_000_000)"), log=full)
    await child.start()
    async with asyncio.timeout(20):
        assert await child.wait() == Ended(code=0)
    await child.stop()
    assert len(child.last_lines) == 20
    assert max(map(len, child.last_lines)) == 4096


async def test_stop_is_idempotent_and_harmless_before_start():
    child = ChildProcess(SLEEP)
    await child.stop()
    await child.start()
    await asyncio.gather(child.stop(), child.stop())
    await child.stop()
    assert child.ended == Ended(signal=signal.SIGTERM)


async def test_cancelled_while_it_starts_leaves_nothing():
    child = ChildProcess(SLEEP)
    starting = asyncio.create_task(child.start())
    await asyncio.sleep(0)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    assert child._tether is not None
    assert child._tether.poll() is not None
    deadline = time.monotonic() + 5
    while child.pid is not None and runs(child.pid):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)
