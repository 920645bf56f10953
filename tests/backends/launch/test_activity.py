from __future__ import annotations

import pytest

from backends.launch.activity import PROBE_WHEN_IDLE, Activity, Look


def look(activity: Activity, now: float, idle: float | None = None) -> Look:
    return activity.look(now, stall_timeout=10, idle_unload=idle)


def test_requests_without_progress_are_suspect():
    activity = Activity(0)
    activity.begin(100)
    assert look(activity, 109.9) is Look.NOTHING
    assert look(activity, 110) is Look.PROBE
    activity.progress_at = 105
    assert look(activity, 110) is Look.NOTHING


def test_a_request_after_a_long_rest_is_not_suspect_at_once():
    activity = Activity(0)
    activity.begin(1000)
    assert look(activity, 1001) is Look.NOTHING


def test_a_second_request_does_not_hide_that_the_first_gets_nothing():
    activity = Activity(0)
    for at in range(10):
        activity.begin(at)
    assert look(activity, 10) is Look.PROBE


def test_at_rest_it_is_asked_once_in_a_while():
    activity = Activity(0)
    assert look(activity, PROBE_WHEN_IDLE - 1) is Look.NOTHING
    assert look(activity, PROBE_WHEN_IDLE) is Look.PROBE


@pytest.mark.parametrize("wanted_by", ["running", "pending"])
def test_it_is_unloaded_only_when_nobody_wants_it(wanted_by):
    activity = Activity(0)
    setattr(activity, wanted_by, 1)
    activity.progress_at = 100
    assert look(activity, 100, idle=5) is Look.NOTHING
    setattr(activity, wanted_by, 0)
    assert look(activity, 100, idle=5) is Look.UNLOAD
    assert look(activity, 100, idle=None) is Look.NOTHING


def test_the_gateways_own_probes_are_no_use_of_it():
    activity = Activity(0)
    activity.progress_at = 4.9
    assert look(activity, 5, idle=5) is Look.UNLOAD


def test_rest_begins_when_the_last_request_ends():
    activity = Activity(0)
    activity.begin(1)
    activity.end(50)
    assert look(activity, 54, idle=5) is Look.NOTHING
    assert look(activity, 55, idle=5) is Look.UNLOAD
