from __future__ import annotations

import pytest

from backends.load import Demand
from gateway.policies.saturation import FULL, LONG_QUEUE, is_saturated


@pytest.mark.parametrize(
    ("said", "saturated"),
    [
        (Demand(200, 0), False),
        (Demand(200, LONG_QUEUE - 1, 0.9), False),
        (Demand(1, LONG_QUEUE), True),
        (Demand(1, 0, FULL), True),
    ],
)
def test_a_long_queue_or_a_full_cache_is_no_room_and_what_is_not_said_is_not(said, saturated):
    assert is_saturated(said) is saturated
