from __future__ import annotations

from collections import Counter
from random import Random

import pytest

from backends.load import Demand
from gateway.policies.prefix_affinity import PrefixAffinity
from tests.support.candidates import FakeReplica, replicas, view

RNG = Random(11)
DOCUMENT = RNG.randbytes(24_000)
"""A long shared beginning: 6,000 tokens."""
REPLICAS = "abcdefgh"


def prompts(count, start=b"", own=400):
    return [start + RNG.randbytes(own) for _ in range(count)]


def picks(policy, some, asked):
    rng = Random(1)
    return [policy.pick(some, view(one), rng).id for one in asked]


def test_a_conversation_stays_while_it_grows():
    policy, some, talk, homes = PrefixAffinity(), replicas(REPLICAS), b"", set()
    for _ in range(20):
        talk += RNG.randbytes(500)
        homes.update(picks(policy, some, [talk]))
    assert len(homes) == 1


def test_what_is_known_there_is_told():
    policy, some = PrefixAffinity(), replicas("ab")
    first, second = view(DOCUMENT + b"one"), view(DOCUMENT + b"two")
    policy.pick(some, first, Random(1))
    policy.pick(some, second, Random(1))
    assert first.known == 0
    assert len(DOCUMENT) * 0.98 < second.known <= len(DOCUMENT)


def test_documents_are_spread_and_each_has_its_place():
    policy, some, documents = PrefixAffinity(), replicas(REPLICAS), prompts(40, own=8000)
    homes = {}
    for _ in range(5):
        for number, document in enumerate(documents):
            (home,) = picks(policy, some, [document + RNG.randbytes(300)])
            assert homes.setdefault(number, home) == home
            some["abcdefgh".index(home)].outstanding += number % 2
    assert set(homes.values()) == set(REPLICAS)


def test_prompts_that_share_nothing_go_to_the_least_loaded():
    policy, some = PrefixAffinity(), replicas("abc")
    some[0].outstanding, some[1].pending_tokens = 2, 5000
    assert set(picks(policy, some, prompts(20, own=3000))) == {"c"}


def test_a_short_beginning_that_all_share_does_not_hold_them_together():
    policy, some, rng = PrefixAffinity(), replicas(REPLICAS), Random(1)
    for prompt in prompts(160, start=DOCUMENT[:600], own=2000):
        policy.pick(some, view(prompt), rng).outstanding += 1
    assert max(one.outstanding for one in some) <= 22


def test_it_goes_elsewhere_when_too_much_waits_there_and_comes_back():
    policy, some = PrefixAffinity(), replicas("abc")
    (home,) = picks(policy, some, [DOCUMENT])
    at = some["abc".index(home)]
    at.pending_tokens = 5000
    assert picks(policy, some, [DOCUMENT + b"x"]) == [home]
    at.pending_tokens = 50_000
    assert picks(policy, some, [DOCUMENT + b"y"]) != [home]


@pytest.mark.parametrize("said", [Demand(8, 9), Demand(8, 0, 0.99)])
def test_an_engine_without_room_is_left_alone_where_little_is_known_there(said):
    policy, some = PrefixAffinity(), replicas("abc")
    short = DOCUMENT[:3000]
    (home,) = picks(policy, some, [short])
    at = some["abc".index(home)]
    assert picks(policy, some, [short + b"w"]) == [home]
    at.said = said
    assert picks(policy, some, [short + b"x"]) != [home]
    for one in some:
        one.said = said
    assert picks(policy, some, [DOCUMENT + b"x"])


def test_an_engine_without_room_keeps_the_long_prompts_that_it_knows():
    policy, some = PrefixAffinity(), replicas("abc")
    (home,) = picks(policy, some, [DOCUMENT])
    some["abc".index(home)].said = Demand(1, 9, 0.99)
    assert picks(policy, some, [DOCUMENT + b"x"]) == [home]


def test_all_do_not_run_to_the_one_engine_that_has_room():
    policy, some = PrefixAffinity(), replicas("abcd")
    for one in some[1:]:
        one.said = Demand(1, 9, 0.99)
    picked = []
    for prompt in prompts(100, own=8000):
        (name,) = picks(policy, some, [prompt])
        some["abcd".index(name)].outstanding += 1
        picked.append(name)
    assert picked[0] == "a"
    assert picked.count("a") < 40


def test_what_others_have_sent_counts_as_load():
    policy, some = PrefixAffinity(), replicas("ab")
    some[0].said, some[0].others = Demand(1, 0), 1
    assert set(picks(policy, some, prompts(20))) == {"b"}


def test_weights_are_kept_under_load():
    policy, some, rng = PrefixAffinity(), replicas("abc"), Random(1)
    some[0].weighs = 2.0
    for prompt in prompts(400, own=2000):
        one = policy.pick(some, view(prompt), rng)
        one.outstanding += 1
        one.pending_tokens += 500
    assert 195 <= some[0].outstanding <= 205
    assert 95 <= some[1].outstanding <= 105


def test_idle_replicas_have_their_turn_where_there_is_nothing_to_remember():
    policy, some = PrefixAffinity(), replicas("abc")
    counts = Counter(picks(policy, some, [b""] * 900))
    assert all(200 < count < 400 for count in counts.values())


def test_a_replica_that_goes_moves_its_own_conversations_only():
    policy, some, talks = PrefixAffinity(), replicas("abcd"), prompts(60, own=4000)
    before = dict(zip(range(60), picks(policy, some, talks), strict=True))
    gone = some[:1] + some[2:]
    after = dict(zip(range(60), picks(policy, gone, talks), strict=True))
    assert all(before[n] in ("b", after[n]) for n in range(60))
    back = picks(policy, some, talks)
    assert all(back[n] in (before[n], after[n]) for n in range(60))


def at(policy, some, prompt, now):
    asked = view(prompt, now=now)
    return policy.pick(some, asked, Random(1)).id, asked.known


def test_one_that_was_away_for_long_is_taken_for_started_anew():
    policy, some = PrefixAffinity(), replicas("abc")
    home, _ = at(policy, some, DOCUMENT, 0.0)
    others = [one for one in some if one.id != home]
    for now in range(1, 15):
        at(policy, others, b"another" + DOCUMENT, float(now))
    others[0].outstanding = others[1].outstanding = 9
    assert at(policy, some, DOCUMENT + b"x", 15.0) == (home, 0)
    assert at(policy, some, DOCUMENT + b"y", 16.0)[1] > 20_000


@pytest.mark.parametrize("pause", [5.0, 86_400.0])
def test_nothing_is_forgotten_over_a_short_absence_or_while_nobody_asks(pause):
    policy, some = PrefixAffinity(), replicas("abc")
    home, _ = at(policy, some, DOCUMENT, 0.0)
    if pause < 10:
        at(policy, [one for one in some if one.id != home], b"another" + DOCUMENT, pause / 2)
    found, known = at(policy, some, DOCUMENT + b"x", pause)
    assert found == home
    assert known > 20_000


def test_what_it_remembers_is_bounded_by_replica_and_by_their_number():
    policy, rng = PrefixAffinity(blocks=64), Random(1)
    for number in range(300):
        some = [FakeReplica(f"{number + at}") for at in range(3)]
        policy.pick(some, view(RNG.randbytes(4000)), rng)
    assert len(policy._memories) < 32
    assert all(len(memory) <= 64 + 16 for memory in policy._memories.values())
