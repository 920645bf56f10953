from __future__ import annotations

from backends.launch.phase import Phase
from backends.readiness import Condition


def test_only_what_is_ready_or_is_woken_by_a_request_takes_traffic():
    assert {phase for phase in Phase if phase.takes_traffic} == {Phase.READY, Phase.ASLEEP}


def test_what_dies_is_unhealthy_and_what_begins_or_ends_is_not():
    assert Phase.STARTING.condition is Condition.LOADING
    assert Phase.STOPPING.condition is Condition.DRAINING
    others = (Phase.BACKING_OFF, Phase.CRASH_LOOP, Phase.STOPPED)
    assert {phase.condition for phase in others} == {Condition.UNHEALTHY}
