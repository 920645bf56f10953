from backends.inprocess.admission import Admission
from backends.inprocess.runtime import KvPlan


def test_without_a_plan_everything_fits():
    admission = Admission(8)
    admission.reserve(10**9)
    assert admission.fits(10**9)
    assert (admission.used, admission.planned) == (10**9, 0)


def test_the_sum_counts_where_sequences_take_only_their_own():
    admission = Admission(8, KvPlan(tokens=100, slack=5))
    admission.reserve(40)
    assert admission.used == 45
    assert admission.fits(50)
    assert not admission.fits(51)


def test_the_longest_counts_for_all_where_they_are_padded():
    admission = Admission(8, KvPlan(tokens=100, rectangular=True))
    admission.reserve(10)
    assert admission.fits(50)
    assert not admission.fits(51), "two of 51 each"
    admission.reserve(50)
    assert admission.used == 100
    assert not admission.fits(1)
    admission.release(50)
    assert (admission.used, admission.fits(20)) == (10, True)


def test_there_are_no_more_places_than_the_batch_has():
    admission = Admission(2)
    admission.reserve(1)
    assert admission.fits(1)
    admission.reserve(1)
    assert (admission.running, admission.fits(1)) == (2, False)


def test_alone_a_sequence_always_runs():
    admission = Admission(8, KvPlan(tokens=10))
    assert admission.fits(1000)
    admission.reserve(1000)
    assert not admission.fits(1)
    admission.clear()
    assert admission.used == 0
