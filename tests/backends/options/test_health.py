from __future__ import annotations

import msgspec
import pytest

from backends.options import OutlierDetection


def test_a_default_ejects_soon_and_compares_rarely():
    by = OutlierDetection()
    assert by.consecutive_failures == 3
    assert by.base_ejection_time < by.max_ejection_time


@pytest.mark.parametrize(
    "wrong",
    [{"consecutive_failures": 0}, {"max_ejection_percent": 101}, {"latency_minimum_hosts": 1}],
)
def test_what_means_nothing_is_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, OutlierDetection)
