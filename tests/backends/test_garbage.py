import gc

import pytest

from backends.garbage import calm_collector


@pytest.fixture
def collector():
    thresholds = gc.get_threshold()
    yield
    gc.set_threshold(*thresholds)  # what is frozen stays so, as it is for all the tests


@pytest.mark.usefixtures("collector")
def test_what_was_there_is_never_looked_at_again_and_the_rest_less_often():
    before = gc.get_threshold()
    gc.set_threshold(700, 10, 10)
    frozen = gc.get_freeze_count()
    there = [[] for _ in range(1001)]
    calm_collector()
    assert gc.isenabled()
    assert gc.get_freeze_count() - frozen > len(there)
    assert all(now > then for now, then in zip(gc.get_threshold(), (700, 10, 10), strict=True))
    gc.set_threshold(*before)
