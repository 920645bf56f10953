import pytest

from backends.inprocess.prompt_cache import Found, PromptCache


@pytest.fixture
def cache():
    return PromptCache(max_bytes=100)


def put(cache, tokens, state, *, nbytes=10, cuttable=True, scope=None):
    return cache.put(scope, tokens, state, nbytes=nbytes, cuttable=cuttable)


def test_the_longest_common_beginning_is_found(cache):
    put(cache, [1, 2, 3, 4], "a")
    assert cache.find(None, [1, 2, 3, 9, 9]) == Found("a", 3)
    assert cache.find(None, [9]) is None
    assert cache.find(None, []) is None


def test_of_a_prompt_that_is_there_whole_the_last_token_is_left_out(cache):
    put(cache, [1, 2, 3, 4], "a")
    assert cache.find(None, [1, 2, 3, 4]) == Found("a", 3)
    assert cache.find(None, [1, 2]) == Found("a", 1)
    assert cache.find(None, [1]) is None


def test_what_cannot_be_cut_serves_only_prompts_that_go_on_from_it(cache):
    put(cache, [1, 2, 3], "window", cuttable=False)
    assert cache.find(None, [1, 2, 3, 4]) == Found("window", 3)
    assert cache.find(None, [1, 2, 3]) is None
    assert cache.find(None, [1, 2, 9]) is None


def test_beside_what_cannot_be_cut_shorter_ones_stay(cache):
    put(cache, [1, 2], "short", cuttable=False)
    put(cache, [1, 2, 3, 4], "long", cuttable=False)
    assert cache.find(None, [1, 2, 3]) == Found("short", 2)
    assert cache.find(None, [1, 2, 3, 4, 5]) == Found("long", 4)


def test_a_longer_one_takes_the_place_of_what_it_can_be_cut_to(cache):
    put(cache, [1, 2], "short")
    put(cache, [1, 2, 3, 4], "long")
    assert (len(cache), cache.counts.nbytes) == (1, 10)
    assert cache.find(None, [1, 2, 9]) == Found("long", 2)


def test_the_same_tokens_again_replace_what_was_there(cache):
    put(cache, [1, 2], "old", nbytes=40)
    put(cache, [1, 2], "new", nbytes=30)
    assert (len(cache), cache.counts.nbytes) == (1, 30)
    assert cache.find(None, [1, 2, 3]).state == "new"


def test_what_was_not_used_for_longest_goes_when_there_is_no_room(cache):
    put(cache, [1, 1], "a", nbytes=40)
    put(cache, [2, 2], "b", nbytes=40)
    cache.find(None, [1, 1, 1])
    put(cache, [3, 3], "c", nbytes=40)
    assert cache.counts.nbytes == 80
    assert cache.find(None, [2, 2, 2]) is None
    assert cache.find(None, [1, 1, 1]).state == "a"


def test_what_is_larger_than_all_the_room_drives_nobody_out(cache):
    put(cache, [1, 1], "a")
    assert not put(cache, [2, 2], "huge", nbytes=101)
    assert cache.find(None, [1, 1, 1]).state == "a"


def test_a_cache_of_no_size_keeps_nothing():
    cache = PromptCache(max_bytes=0)
    assert not put(cache, [1, 2], "a", nbytes=1)
    assert cache.find(None, [1, 2, 3]) is None


def test_scopes_share_nothing(cache):
    put(cache, [1, 2, 3], "mine", scope="salt")
    assert cache.find(None, [1, 2, 3, 4]) is None
    assert cache.find("other", [1, 2, 3, 4]) is None
    assert cache.find("salt", [1, 2, 3, 4]) == Found("mine", 3)


def test_a_scope_that_looks_like_a_token_is_none(cache):
    put(cache, [2, 3, 4], "mine", scope="x")
    assert cache.find("x", [3, 4, 5]) is None


def test_tokens_asked_for_and_found_are_counted(cache):
    put(cache, [1, 2, 3], "a")
    cache.find(None, [1, 2, 3, 4])
    cache.find(None, [7, 8])
    assert (cache.counts.queries, cache.counts.hits) == (6, 3)
    cache.clear()
    assert (len(cache), cache.counts) == (0, (6, 3, 0))


def test_room_is_made_for_what_is_not_in_it(cache):
    for at in range(10):
        put(cache, [at, 1], at)
    cache.make_room(0)
    assert cache.counts.nbytes == 100
    assert cache.find(None, [0, 1, 2]) == Found(0, 2)  # so it is not the one to go
    cache.make_room(85)
    assert (len(cache), cache.counts.nbytes) == (1, 10)
    assert cache.find(None, [0, 1, 2]) == Found(0, 2)
    cache.make_room(1000)
    assert (len(cache), cache.counts.nbytes) == (0, 0)
