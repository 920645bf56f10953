import random

import pytest

from backends.inprocess.prefix_tree import PrefixTree


@pytest.fixture
def tree():
    return PrefixTree()


def common(a, b):
    return next(
        (at for at, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b))
    )


def test_an_empty_tree(tree):
    assert tree.nearest([1, 2]) is None
    assert tree.longest_prefix([1, 2]) is None
    tree.remove([1])
    assert list(tree.prefixes([1])) == []


def test_the_nearest_is_the_one_with_most_in_common(tree):
    tree.set([1, 2, 3, 4], "a")
    tree.set([1, 2, 9], "b")
    assert tree.nearest([1, 2, 3, 7]) == ("a", 3)
    assert tree.nearest([1, 2, 9, 9, 9]) == ("b", 3)
    assert tree.nearest([1, 2]) in (("a", 2), ("b", 2))
    assert tree.nearest([5])[1] == 0


def test_the_longest_prefix_is_a_whole_one(tree):
    tree.set([1, 2], "short")
    tree.set([1, 2, 3, 4], "long")
    assert tree.longest_prefix([1, 2, 3]) == ("short", 2)
    assert tree.longest_prefix([1, 2, 3, 4, 5]) == ("long", 4)
    assert tree.longest_prefix([1]) is None
    assert list(tree.prefixes([1, 2, 3, 4, 5])) == ["long", "short"]
    assert list(tree.prefixes([1, 2, 3, 4])) == ["short"]


def test_a_value_is_replaced_and_told(tree):
    assert tree.set([1, 2], "a") is None
    assert tree.set([1, 2], "b") == "a"
    for other in ([1], [1, 2, 3]):
        tree.remove(other)
        assert tree.longest_prefix([1, 2]) == ("b", 2)
    tree.remove([1, 2])
    assert tree.nearest([1, 2]) is None


def test_edges_longer_than_what_is_compared_at_once(tree):
    base = list(range(1000))
    tree.set(base, "a")
    for at in (0, 255, 256, 257, 999):
        other = base[:at] + [-1] * 10
        assert tree.nearest(other) == ("a", at)


@pytest.mark.parametrize("seed", range(20))
def test_it_agrees_with_a_plain_list(seed, tree):
    rng = random.Random(seed)
    known = {}
    for step in range(300):
        key = tuple(rng.randrange(3) for _ in range(rng.randrange(1, 9)))
        if rng.random() < 0.6:
            assert tree.set(key, step) == known.get(key)
            known[key] = step
        else:
            tree.remove(key)
            known.pop(key, None)
        asked = tuple(rng.randrange(3) for _ in range(rng.randrange(1, 9)))
        best = max((common(asked, one) for one in known), default=None)
        found = tree.nearest(asked)
        assert (found and found[1]) == best
        if found:
            owner = next(one for one, value in known.items() if value == found[0])
            assert common(owner, asked) == best
        whole = [one for one in known if asked[: len(one)] == one]
        longest = max(whole, key=len, default=None)
        assert tree.longest_prefix(asked) == (longest and (known[longest], len(longest)))
        shorter = sorted((one for one in whole if one != asked), key=len, reverse=True)
        assert list(tree.prefixes(asked)) == [known[one] for one in shorter]
