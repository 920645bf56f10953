import pytest

from backends.llama_cpp.slots import Slots


def fill(slots, tokens, salt=None):
    """One sequence that came and went."""
    slot, shared = slots.take(tokens, salt)
    slot.tokens = list(tokens)
    slots.give_back(slot)
    return slot.number, shared


def test_the_next_turn_of_a_conversation_gets_its_slot():
    slots = Slots(3)
    first, _ = fill(slots, [1, 2, 3, 4])
    other, _ = fill(slots, [9, 9, 9, 9])
    assert other != first
    assert fill(slots, [1, 2, 3, 4, 5, 6]) == (first, 4)
    assert slots.cached == 6 + 4


def test_one_token_is_always_left_to_compute():
    slots = Slots(1)
    fill(slots, [1, 2, 3])
    assert fill(slots, [1, 2, 3]) == (0, 2)
    assert fill(slots, [1, 2]) == (0, 1)
    assert fill(slots, [1]) == (0, 0)


def test_a_slot_is_not_given_up_for_a_few_words_that_all_begin_with():
    slots = Slots(2)
    long, _ = fill(slots, [1, *range(100, 200)])
    short, shared = fill(slots, [1, 2, 3])
    assert short != long
    assert shared == 0
    assert fill(slots, [1, *range(100, 200), 5])[0] == long


def test_the_slot_least_recently_used_goes_first():
    slots = Slots(2)
    old, _ = fill(slots, [1])
    new, _ = fill(slots, [2])
    assert fill(slots, [3])[0] == old
    assert fill(slots, [4])[0] == new


def test_what_was_computed_under_another_salt_is_not_seen():
    slots = Slots(2)
    fill(slots, [1, 2, 3], salt="a")
    assert fill(slots, [1, 2, 3, 4], salt="b")[1] == 0
    assert fill(slots, [1, 2, 3, 4])[1] == 0
    slots = Slots(2)
    fill(slots, [1, 2, 3], salt="a")
    assert fill(slots, [1, 2, 3, 4], salt="a")[1] == 3


def test_there_are_no_more_than_there_are():
    slots = Slots(1)
    slots.take([1], None)
    with pytest.raises(IndexError):
        slots.take([1], None)


@pytest.mark.parametrize("shared", [0, 1, 2, 3, 7, 8, 99, 100])
def test_the_shared_beginning_is_exact(shared):
    ours = list(range(100))
    theirs = [*range(shared), *[-1] * 50]
    slots = Slots(1)
    fill(slots, ours)
    assert fill(slots, theirs)[1] == (shared if 2 * shared >= 100 else 0)
