from __future__ import annotations

import asyncio
import logging
from types import SimpleNamespace

import pytest

from backends.readiness import Readiness
from gateway.control.conditions import ConditionMonitor
from gateway.routing.breaker import FIRST_WAIT, THRESHOLD
from gateway.routing.replica import Replica


class Stage:
    """A monitor of replicas, and the time."""

    def __init__(self, caplog, *names):
        caplog.set_level(logging.INFO)
        self._log = caplog
        self.now = 0.0
        self.replicas = tuple(Replica("engine", object(), f"http://{name}") for name in names)
        for one in self.replicas:
            one.peers = self.replicas
        self.snapshot = SimpleNamespace(replicas=self.replicas)
        state = SimpleNamespace(snapshot=self.snapshot)
        self.monitor = ConditionMonitor(state, tick=0.01, clock=lambda: self.now)

    def look(self):
        """What is told by it."""
        self._log.clear()
        self.monitor.look()
        return [(record.levelname, record.message) for record in self._log.records]


def test_each_change_is_told_once_with_its_reason(caplog):
    stage = Stage(caplog, "a")
    (one,) = stage.replicas
    assert stage.look() == [("INFO", "engine@a: loading: not probed yet")]
    one.observe(Readiness(True))
    assert stage.look() == [("INFO", "engine@a: ready")]
    assert stage.look() == []
    for _ in range(THRESHOLD):
        one.failed(one.breaker.sent(0.0), 0.0, "http_500")
    why = "3 failures in a row, the last: http_500; tried again in 1 s"
    assert stage.look() == [("WARNING", f"engine@a: ejected: {why}")]
    stage.now = FIRST_WAIT
    assert stage.look() == [], "half-open is no news"
    one.succeeded(one.breaker.sent(stage.now))
    assert stage.look() == [("INFO", "engine@a: ready")]


def test_a_change_that_comes_with_time_alone_is_told(caplog):
    stage = Stage(caplog, "a")
    stage.replicas[0].observe(Readiness(True))
    stage.look()
    stage.replicas[0].leave_alone(30.0)
    assert stage.look()[0][0] == "WARNING"
    stage.now = 30.0
    assert stage.look() == [("INFO", "engine@a: ready")]


def test_outliers_are_ejected_at_the_end_of_an_interval(caplog):
    stage = Stage(caplog, "a", "b")
    bad, good = stage.replicas
    for one in stage.replicas:
        one.observe(Readiness(True))
    stage.look()
    for one in stage.replicas:
        one.tally.successes = 10
    bad.tally.failures = 20
    stage.now = 10.0
    why = "67 % of its requests fail; tried again in 30 s"
    assert stage.look() == [("WARNING", f"engine@a: ejected: {why}")]
    assert good.may_take_traffic(stage.now)


def test_who_is_gone_is_forgotten_and_told_anew(caplog):
    stage = Stage(caplog, "a")
    stage.look()
    stage.snapshot.replicas = ()
    assert stage.look() == []
    stage.snapshot.replicas = stage.replicas
    assert stage.look() != []


async def test_it_looks_again_and_again(caplog):
    stage = Stage(caplog, "a")
    watching = asyncio.create_task(stage.monitor.run())
    await asyncio.sleep(0.05)
    stage.replicas[0].observe(Readiness(True))
    while "engine@a: ready" not in caplog.text:
        await asyncio.sleep(0.01)
    watching.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watching
