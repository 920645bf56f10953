from __future__ import annotations

from math import exp
from random import Random

import pytest

from backends.load import Demand
from gateway.routing.load import DECAY, FRESH, ReplicaLoad


class TestWork:
    def test_a_prompt_counts_until_the_first_token_and_the_attempt_to_its_end(self):
        load = ReplicaLoad()
        work = load.begin(0.0, 100)
        assert (load.outstanding, load.pending_tokens) == (1, 100)
        work.first_token(1.0)
        assert (load.outstanding, load.pending_tokens) == (1, 0)
        work.end()
        assert (load.outstanding, load.pending_tokens) == (0, 0)

    def test_one_that_never_gets_a_token_leaves_nothing_behind(self):
        load = ReplicaLoad()
        load.begin(0.0, 100).end()
        assert (load.outstanding, load.pending_tokens) == (0, 0)
        assert load.first_token_time(0.0) is None

    def test_what_was_known_of_prompts_is_counted_and_not_waited_for(self):
        load = ReplicaLoad()
        load.begin(0.0, 100, 900).end()
        work = load.begin(0.0, 50)
        assert (load.prompt_tokens, load.known_tokens, load.pending_tokens) == (1050, 900, 50)
        work.end()

    def test_however_they_end_and_however_often_nothing_is_left(self):
        load, rng = ReplicaLoad(), Random(1)
        for work in [load.begin(0.0, rng.randrange(9)) for _ in range(50)]:
            if rng.random() < 0.5:
                work.first_token(1.0)
            for _ in range(rng.randint(1, 3)):
                work.end()
        assert (load.outstanding, load.pending_tokens) == (0, 0)


class TestFirstTokenTime:
    def test_a_worse_time_is_believed_at_once(self):
        load = ReplicaLoad()
        load.first_token_came(0.0, 0.1)
        load.first_token_came(1.0, 2.0)
        assert load.first_token_time(1.0) == 2.0

    def test_a_better_one_by_and_by(self):
        load = ReplicaLoad()
        load.first_token_came(0.0, 2.0)
        load.first_token_came(1.0, 0.1)
        kept = exp(-1.0 / DECAY)
        assert load.first_token_time(1.0) == pytest.approx(2.0 * kept + 0.1 * (1 - kept))

    def test_one_that_is_not_renewed_fades(self):
        load = ReplicaLoad()
        load.first_token_came(0.0, 2.0)
        assert load.first_token_time(DECAY) == pytest.approx(2.0 / exp(1))


class TestDemand:
    def test_what_was_never_said_is_unknown(self):
        load = ReplicaLoad()
        assert load.demand(0.0) is None
        assert load.foreign(0.0) == 0

    def test_what_is_old_is_unknown(self):
        load = ReplicaLoad()
        load.heard(10.0, Demand(3, 1))
        assert load.demand(10.0 + FRESH) == Demand(3, 1)
        assert load.demand(10.1 + FRESH) is None
        assert load.foreign(10.1 + FRESH) == 0

    def test_what_others_have_sent_is_what_this_gateway_had_not_when_it_was_said(self):
        load = ReplicaLoad()
        works = [load.begin(0.0, 1) for _ in range(3)]
        load.heard(1.0, Demand(4, 1))
        assert load.foreign(1.0) == 2
        for work in works:
            work.end()
        assert load.foreign(1.5) == 2

    def test_an_engine_that_has_not_noticed_all_yet_has_none_of_others(self):
        load = ReplicaLoad()
        for _ in range(3):
            load.begin(0.0, 1)
        load.heard(1.0, Demand(1, 0))
        assert load.foreign(1.0) == 0
