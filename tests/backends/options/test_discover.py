from __future__ import annotations

import msgspec
import pytest

from backends.options import Discover
from backends.units import Duration, Timeout


@pytest.mark.parametrize(
    "wrong",
    [
        {"dns": "https://llama.internal"},
        {"dns": "llama.internal:8080"},
        {"dns": "http://user:secret@llama.internal"},
        {"dns": "http://[::1]:8080"},
        {"srv": "http://_llama._tcp.internal:8080"},
        {"file": ""},
        {"nameserver": "ns.internal"},
    ],
)
def test_what_means_nothing_is_refused(wrong):
    with pytest.raises(msgspec.ValidationError):
        msgspec.convert(wrong, Discover)


def test_how_often_is_no_part_of_where():
    often = Discover(dns="http://llama.internal:8080", every=Timeout(1), removal_grace=Duration(0))
    assert often.source == Discover(dns="http://llama.internal:8080")
    assert often.where == "dns http://llama.internal:8080"
