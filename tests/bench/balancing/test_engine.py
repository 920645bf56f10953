"""An engine does what its rates say: cases counted by hand."""

from __future__ import annotations

import math
from itertools import count

import pytest

from bench.balancing.engine import Engine, Machine
from bench.balancing.work import Run, Work

MACHINE = Machine(
    prefill=1000.0,
    step=0.01,
    per_sequence=0.001,
    max_sequences=4,
    step_tokens=500,
    kv_tokens=100_000,
)
_keys = count(1)


def work(prompt, answer, key=None):
    return Work((Run(key or next(_keys), prompt), Run(next(_keys), prompt + answer)), prompt)


def run(engine):
    """Until nothing is left: when each had its first token, and when it was done."""
    first, done = {}, {}
    while engine.due < math.inf:
        now = engine.due
        progress = engine.advance()
        first.update((one.id, now) for one in progress.first_tokens)
        done.update((one.id, now) for one in progress.done)
    return first, done


def test_an_idle_engine_has_nothing_due():
    assert Engine(MACHINE).due == math.inf


def test_a_request_alone_takes_what_the_rates_say():
    engine = Engine(MACHINE)
    engine.submit(1, work(200, 11), 5.0)
    first, done = run(engine)
    assert first[1] == pytest.approx(5 + 0.01 + 200 / 1000)
    assert done[1] == pytest.approx(first[1] + 10 * (0.01 + 0.001))


def test_an_answer_of_one_token_is_done_with_its_first():
    engine = Engine(MACHINE)
    engine.submit(1, work(200, 1), 0.0)
    first, done = run(engine)
    assert first == done


def test_a_long_prompt_is_computed_in_parts():
    engine = Engine(MACHINE)
    engine.submit(1, work(1200, 2), 0.0)
    first, _ = run(engine)
    assert first[1] == pytest.approx(3 * 0.01 + 1200 / 1000)


def test_the_rate_of_each_falls_and_that_of_all_rises_with_the_batch():
    engine = Engine(MACHINE)
    for number in range(4):
        engine.submit(number, work(16, 101), 0.0)
    first, done = run(engine)
    last = max(first.values())
    # One was seen a step before the others, and is a token ahead.
    assert max(done.values()) == pytest.approx(last + 99 * 0.014 + 0.013)


def test_chunked_prefill_slows_those_that_decode_and_does_not_stop_them():
    engine = Engine(MACHINE)
    engine.submit(1, work(100, 21), 0.0)
    engine.submit(2, work(1485, 2), 0.0)
    first, done = run(engine)
    assert first[1] < done[1] < first[2] + 0.2
    alone = 0.01 + 100 / 1000 + 20 * 0.011
    assert done[1] > alone + 1


def test_without_chunks_those_that_decode_wait_for_whole_prompts():
    engine = Engine(MACHINE._replace(chunked=False))
    engine.submit(1, work(100, 21), 0.0)
    engine.submit(2, work(1485, 2), 0.0)
    first, done = run(engine)
    assert first[1] == pytest.approx(0.11)
    assert first[2] == pytest.approx(0.11 + 0.01 + 1.485)
    assert done[1] == pytest.approx(first[2] + 0.012 + 19 * 0.011)


def test_no_more_run_than_the_limit_says():
    engine = Engine(MACHINE)
    for number in range(6):
        engine.submit(number, work(16, 11), 0.0)
    engine.advance()
    engine.advance()
    assert (engine.running, engine.waiting) == (4, 2)
    first, done = run(engine)
    assert len(done) == 6
    assert min(first[4], first[5]) > min(done[number] for number in range(4))


def test_one_that_finds_no_kv_memory_waits_until_another_ends():
    engine = Engine(MACHINE._replace(kv_tokens=320))
    engine.submit(1, work(160, 96), 0.0)
    engine.submit(2, work(160, 16), 0.0)
    first, done = run(engine)
    assert first[2] > done[1]


def test_a_cached_prefix_is_not_computed_again():
    engine = Engine(MACHINE)
    engine.submit(1, work(320, 2, key=7), 0.0)
    _, done = run(engine)
    engine.submit(2, work(320, 2, key=7), done[1])
    first, _ = run(engine)
    assert first[2] - done[1] == pytest.approx(0.01 + 16 / 1000)


def test_without_a_cache_it_is():
    engine = Engine(MACHINE._replace(prefix_caching=False))
    engine.submit(1, work(320, 2, key=7), 0.0)
    _, done = run(engine)
    engine.submit(2, work(320, 2, key=7), done[1])
    first, _ = run(engine)
    assert first[2] - done[1] == pytest.approx(0.01 + 320 / 1000)


def test_one_that_comes_while_others_decode_is_seen_at_the_end_of_the_step():
    engine = Engine(MACHINE)
    engine.submit(1, work(90, 1001), 0.0)
    engine.advance()  # at 0.1
    engine.submit(2, work(100, 2), 0.1 + 0.011 * 3.5)
    first, done = run(engine)
    assert first[2] == pytest.approx(0.1 + 0.011 * 4 + 0.01 + 0.001 + 0.1)
    assert done[1] == pytest.approx(0.1 + 1000 * 0.011 + 0.1 + 0.001)


def test_what_a_dying_engine_has_is_told_with_what_it_has_answered():
    engine = Engine(MACHINE)
    engine.submit(1, work(90, 101), 0.0)
    engine.advance()  # its first token, at 0.1
    engine.submit(2, work(100, 2), 0.1 + 0.011 * 9.5)
    lost = {sequence.id: answered for sequence, answered in engine.lost(0.1 + 0.011 * 9.7)}
    assert lost == {1: 10, 2: 0}


def test_what_another_engine_has_answered_is_prompt_here():
    engine = Engine(MACHINE)
    engine.submit(1, work(90, 101).after(51), 0.0)
    first, done = run(engine)
    assert first[1] == pytest.approx(0.01 + 0.141)
    assert done[1] == pytest.approx(first[1] + 49 * 0.011)


def test_a_slower_machine_takes_its_factor():
    times = []
    for machine in (MACHINE, MACHINE.slower(2)):
        engine = Engine(machine)
        for number in range(3):
            engine.submit(number, work(400, 50), 0.0)
        times.append(max(run(engine)[1].values()))
    assert times[1] == pytest.approx(2 * times[0])
