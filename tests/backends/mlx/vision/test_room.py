"""The bytes of pictures that wait have a bound, and come back with their holders."""

import threading

from backends.mlx.vision.room import Room


class Holder:
    """Something that can be forgotten."""


def test_what_does_not_fit_is_refused_and_takes_nothing():
    room, holder = Room(10), Holder()
    assert room.take(holder, 6)
    assert not room.take(holder, 5)
    assert room.free == 4


def test_it_comes_back_when_the_holder_is_gone():
    room, holder = Room(10), Holder()
    assert room.take(holder, 10)
    del holder
    assert room.free == 10


def test_threads_never_get_more_than_there_is():
    room, kept = Room(100), []

    def take_all():
        for _ in range(100):
            holder = Holder()
            if room.take(holder, 1):
                kept.append(holder)

    threads = [threading.Thread(target=take_all) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 100
    assert room.free == 0
    kept.clear()
    assert room.free == 100
