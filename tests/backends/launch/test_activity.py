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
    activity.progress(105)
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


def test_clients_that_give_up_and_ask_again_do_not_hide_a_dead_engine():
    activity = Activity(0)
    for at in (100, 104, 108):
        activity.begin(at)
        assert look(activity, at) is Look.NOTHING
        activity.end(at + 3)
    assert look(activity, 111) is Look.PROBE
    activity.progress(112)
    activity.begin(120)
    assert look(activity, 129) is Look.NOTHING
    assert look(activity, 130) is Look.PROBE


def test_at_rest_it_is_asked_once_in_a_while():
    activity = Activity(0)
    assert look(activity, PROBE_WHEN_IDLE - 1) is Look.NOTHING
    assert look(activity, PROBE_WHEN_IDLE) is Look.PROBE


@pytest.mark.parametrize("wanted_by", ["running", "pending"])
def test_it_is_unloaded_only_when_nobody_wants_it(wanted_by):
    activity = Activity(0)
    setattr(activity, wanted_by, 1)
    activity.progress(100)
    assert look(activity, 100, idle=5) is Look.NOTHING
    setattr(activity, wanted_by, 0)
    assert look(activity, 100, idle=5) is Look.UNLOAD
    assert look(activity, 100, idle=None) is Look.NOTHING


def test_the_gateways_own_probes_are_no_use_of_it():
    activity = Activity(0)
    activity.progress(4.9)
    assert look(activity, 5, idle=5) is Look.UNLOAD


def test_rest_begins_when_the_last_request_ends():
    activity = Activity(0)
    activity.begin(1)
    activity.progress(50)
    activity.end(50)
    assert look(activity, 54, idle=5) is Look.NOTHING
    assert look(activity, 55, idle=5) is Look.UNLOAD
