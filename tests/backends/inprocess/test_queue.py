import pytest

from backends.inprocess.job import Job, Row
from backends.inprocess.params import Sampling
from backends.inprocess.queue import WaitQueue
from backends.inprocess.runtime import SequenceSpec
from backends.inprocess.text import SequenceText


def job(*, rows=1, priority=0):
    made = Job(lambda piece: None, stream=True, priority=priority)
    spec = SequenceSpec(prompt=[1], max_tokens=1, sampling=Sampling())
    made.rows = [Row(made, spec, SequenceText(at, lambda tokens: "")) for at in range(rows)]
    return made


@pytest.fixture
def queue():
    return WaitQueue(timeout=10)


def drain(queue, now=0.0):
    order = []
    while queue.head() is not None:
        order.append(queue.pop(now).job)
    return order


def test_without_priorities_it_is_first_come_first_served(queue):
    jobs = [job(), job(rows=2), job()]
    for one in jobs:
        queue.add(one, 0)
    assert len(queue) == 4
    assert drain(queue) == [jobs[0], jobs[1], jobs[1], jobs[2]]
    assert len(queue) == 0


def test_lower_priority_goes_first_and_arrival_decides_among_equals(queue):
    jobs = {name: job(priority=level) for name, level in zip("abcd", (5, 0, -1, 0), strict=True)}
    for one in jobs.values():
        queue.add(one, 0)
    assert drain(queue) == [jobs["c"], jobs["b"], jobs["d"], jobs["a"]]


def test_a_job_in_the_middle_of_its_rows_is_passed_by_a_more_urgent_one(queue):
    big, urgent = job(rows=3), job(priority=-1)
    queue.add(big, 0)
    queue.pop(0)
    queue.add(urgent, 0)
    assert drain(queue) == [urgent, big, big]


def test_dropped_jobs_leave_no_trace(queue):
    one, other = job(rows=2), job()
    queue.add(one, 0)
    queue.add(other, 0)
    for _ in range(2):
        queue.drop(one)
    assert (len(queue), drain(queue)) == (1, [other])


def test_who_has_waited_for_too_long_is_taken_out_and_others_are_not(queue):
    early, late = job(rows=2), job()
    queue.add(early, 0)
    queue.add(late, 5)
    assert queue.expire(9.9) == []
    assert queue.expire(10) == [early]
    assert (len(queue), queue.longest_wait(12)) == (1, 7)
    assert queue.expire(15) == [late]
    assert queue.longest_wait(15) == 0


def test_urgent_ones_expire_too_although_they_stand_in_front(queue):
    urgent = job(priority=-5)
    queue.add(urgent, 0)
    queue.add(job(), 3)
    assert queue.expire(11) == [urgent]


def test_a_job_with_a_place_does_not_expire(queue):
    begun, other = job(rows=2), job()
    queue.add(begun, 0)
    queue.add(other, 1)
    queue.pop(2)
    assert queue.expire(100) == [other]
    assert (len(queue), queue.longest_wait(100)) == (1, 0)


def test_waits_are_counted_once_a_job(queue):
    queue.add(job(rows=2), 1)
    queue.add(job(), 1)
    queue.pop(3)
    queue.pop(9)
    assert (queue.waits, queue.waited) == (1, 2)
    queue.pop(9)
    assert (queue.waits, queue.waited) == (2, 10)


def test_advice_follows_what_others_waited_within_bounds(queue):
    assert queue.advice() == 1
    for _ in range(40):
        queue.add(job(), 0)
        queue.pop(8)
    assert 7 < queue.advice() < 8.1
    for _ in range(40):
        queue.add(job(), 0)
        queue.expire(1000)
    assert queue.advice() == 60


def test_cleared(queue):
    queue.add(job(rows=3), 0)
    queue.clear()
    assert (len(queue), queue.head(), list(queue)) == (0, None, [])
