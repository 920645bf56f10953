"""Hits are exact, on traces small enough to be counted by hand."""

from __future__ import annotations

from collections import OrderedDict
from itertools import pairwise
from random import Random

import pytest

from bench.balancing.prefix_cache import PrefixCache
from bench.balancing.work import Run, Work

PREFIX, OTHER = 1, 2


def work(*runs, answer=16):
    """Runs of so many tokens by key, and an answer of its own."""
    end, made = 0, []
    for key, tokens in runs:
        end += tokens
        made.append(Run(key, end))
    made.append(Run(-hash((*made,)) or -1, end + answer))
    return Work(tuple(made), end)


def serve(cache, asked):
    """A request from start to end; the tokens that it hit."""
    lease = cache.take(asked)
    cache.computed(lease, asked.tokens - 1)
    cache.give_back(lease)
    return lease.hit_tokens


def test_a_prefix_is_hit_in_whole_blocks():
    cache = PrefixCache(100)
    assert serve(cache, work((PREFIX, 100), (10, 50))) == 0
    assert serve(cache, work((PREFIX, 100), (11, 50))) == 96


def test_a_run_shorter_than_a_block_stands_in_no_ones_way():
    cache = PrefixCache(100)
    serve(cache, work((PREFIX, 5), (10, 100)))
    assert serve(cache, work((PREFIX, 5), (10, 100), (12, 20))) == 96


def test_the_last_token_of_a_prompt_is_always_computed():
    cache = PrefixCache(100)
    asked = work((PREFIX, 160))
    serve(cache, asked)
    assert serve(cache, asked) == 144


def test_an_answer_is_a_prefix_of_the_next_turn():
    cache = PrefixCache(100)
    first = work((PREFIX, 64), answer=64)
    serve(cache, first)
    runs = (*first.runs, Run(5, 160), Run(6, 200))
    # The last token of the answer was never read: its block is not whole.
    assert serve(cache, Work(runs, 160)) == 112


def test_what_is_being_computed_is_found_by_others():
    cache = PrefixCache(100)
    one, other = work((PREFIX, 320), (10, 32)), work((PREFIX, 320), (11, 32))
    lease = cache.take(one)
    assert cache.take(other).hit_tokens == 0
    cache.computed(lease, 100)
    assert cache.take(other).hit_tokens == 96


def test_the_longest_unused_goes_first_and_its_end_before_its_beginning():
    cache = PrefixCache(30)
    serve(cache, work((PREFIX, 160), answer=1))
    serve(cache, work((OTHER, 160), answer=1))
    serve(cache, work((3, 160), answer=1))  # 31 blocks in all would be needed
    assert serve(cache, work((PREFIX, 160), answer=1)) == 144
    assert serve(cache, work((OTHER, 160), answer=1)) == 144


def test_use_keeps_a_prefix():
    cache = PrefixCache(30)
    serve(cache, work((PREFIX, 160), answer=1))
    serve(cache, work((OTHER, 160), answer=1))
    serve(cache, work((PREFIX, 160), answer=1))
    serve(cache, work((3, 240), answer=1))
    assert serve(cache, work((PREFIX, 160), (9, 16), answer=1)) == 160
    assert serve(cache, work((OTHER, 160), (9, 16), answer=1)) < 160


def test_a_sequence_waits_for_room_and_takes_none_from_those_that_run():
    cache = PrefixCache(20)
    running = cache.take(work((PREFIX, 160), answer=16))
    assert cache.take(work((OTHER, 160), answer=16)) is None
    cache.give_back(running)
    assert cache.take(work((OTHER, 160), answer=16)) is not None


def test_what_is_shared_takes_room_once():
    cache = PrefixCache(20)
    first = cache.take(work((PREFIX, 240), (10, 16), answer=16))
    assert cache.take(work((PREFIX, 240), (11, 16), answer=16)) is None
    cache.computed(first, 256)
    assert cache.take(work((PREFIX, 240), (11, 16), answer=16)) is not None
    assert cache.usage == pytest.approx((15 + 2 + 2) / 20)


def test_what_is_larger_than_the_memory_is_refused():
    with pytest.raises(ValueError, match="do not fit"):
        PrefixCache(10).take(work((PREFIX, 160), answer=16))


class BlockByBlock:
    """The same, the plain way: a list of hashes for each request, and an order by last use."""

    def __init__(self, capacity):
        self.capacity = capacity
        self.order = OrderedDict()

    def serve(self, asked):
        blocks = list(self.blocks(asked))
        prompt = (asked.prompt_tokens - 1) // 16
        hit = 0
        while hit < prompt and blocks[hit] in self.order:
            hit += 1
        for block in blocks:
            self.order.pop(block, None)
        room = self.capacity - -(-asked.tokens // 16)
        while len(self.order) > room:
            self.order.popitem(last=False)
        for block in reversed(blocks[: (asked.tokens - 1) // 16]):
            self.order[block] = None
        return hit * 16

    def blocks(self, asked):
        ends = [(0, 0), *((run.end, run.key) for run in asked.runs)]
        spans = [(begin, end, key) for (begin, _), (end, key) in pairwise(ends)]
        for number in range(asked.tokens // 16):
            last = number * 16 + 15
            key, begin = next((k, b) for b, e, k in spans if b <= last < e)
            yield key, last - begin


@pytest.mark.parametrize("seed", range(20))
def test_hits_are_those_of_a_cache_that_counts_block_by_block(seed):
    rng = Random(seed)
    cache, plain = PrefixCache(60), BlockByBlock(60)
    for number in range(300):
        chain, key = [], 0
        for _ in range(rng.randint(1, 4)):
            key = key * 3 + rng.randint(1, 3)
            chain.append((key, 20 + 37 * (key % 7)))
        chain.append((1000 + number, rng.randint(1, 60)))
        asked = work(*chain, answer=rng.randint(1, 40))
        assert serve(cache, asked) == plain.serve(asked), number
