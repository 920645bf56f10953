from __future__ import annotations

from random import Random

import pytest

from gateway.policies.prefix_memory import PrefixMemory


def test_the_longest_beginning_is_known():
    memory = PrefixMemory()
    memory.learn([1, 2, 3])
    memory.learn([1, 2, 4, 5])
    assert memory.known([1, 2, 4, 6]) == 3
    assert memory.known([1, 2, 3]) == 3
    assert memory.known([9, 2, 3]) == 0
    assert memory.known([]) == 0


@pytest.mark.parametrize("seed", range(20))
def test_bisection_finds_what_a_walk_would(seed):
    rng, memory, learnt = Random(seed), PrefixMemory(), []
    for _ in range(30):
        base = rng.choice(learnt) if learnt and rng.random() < 0.7 else []
        prompt = base[: rng.randint(0, len(base))] + [
            rng.random() for _ in range(rng.randint(1, 9))
        ]
        learnt.append(prompt)
        memory.learn(prompt)
        asked = [*rng.choice(learnt)[: rng.randint(0, 20)], rng.random()]
        every = {block for one in learnt for block in one}
        walked = next(at for at, block in enumerate(asked) if block not in every)
        assert memory.known(asked) == walked


def test_it_stays_within_its_bound_and_keeps_what_is_used():
    memory = PrefixMemory(blocks=100)
    for number in range(1000):
        memory.learn(["kept"] + [(number, at) for at in range(9)])
        assert len(memory) <= 100 + 10
        assert memory.known(["kept"]) == 1
        assert memory.known(["kept", (number, 0)]) == 2
    assert memory.known(["kept", (0, 0)]) == 1


def test_what_is_half_forgotten_is_forgotten_from_its_end():
    memory, rng = PrefixMemory(blocks=40), Random(1)
    prompts = [[("all",), *((n // 4, "some"), (n, "own"), (n, "more"))] for n in range(40)]
    for _ in range(500):
        memory.learn(rng.choice(prompts))
        for prompt in prompts:
            there = [memory.known([block]) for block in prompt]
            assert there == sorted(there, reverse=True)
