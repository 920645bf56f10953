"""What becomes of the pictures that a client sends."""

from backends.inprocess.images import Picture


def test_a_picture_is_known_by_what_was_sent():
    assert Picture(pixels=None, digest=b"a") != Picture(pixels=None, digest=b"b")
