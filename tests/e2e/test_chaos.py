"""Half a minute of chaos: engines killed, held still and swapped under load. Nobody is lied to.

The long run is `python -m bench.chaos`, of which this is the beginning, always the same one.
"""

from __future__ import annotations

import pytest

from bench.chaos.house import ENGINES, OWN
from bench.chaos.run import chaos
from bench.chaos.schedule import schedule
from tests.support import engines

SEED = 4
SECONDS = 20.0


@pytest.mark.engine
@pytest.mark.timeout(240)
async def test_every_answer_is_right_or_an_honest_error_and_nothing_grows(tmp_path):
    engines.require(engines.LLAMA_SERVER)
    deeds = schedule(SEED, SECONDS, engines=ENGINES, own=OWN, gap=1.2)
    result = await chaos(tmp_path, deeds, SECONDS, clients=8, warm_up=4.0)
    slips = [(slip.verdict, slip.kind, slip.question, slip.heard) for slip in result.slips]
    assert result.dishonest == 0, slips
    assert result.bugs == []
    assert result.after.grown(result.before, mb=64) == []
    assert sum(counter.total() for counter in result.verdicts.values()) > 0
