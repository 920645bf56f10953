"""Weighted rendezvous hashing: how far a key is from one of several places.

A key goes to the place nearest to it. Distances are exponential draws with the place's weight as
their rate, made from a hash: so a place is the nearest for `weight / total` of all keys, and
another weight, or a place that comes or goes, moves only keys to or from that place.

Sources: D. Thaler, C. Ravishankar, "Using name-based mappings to increase hit rates" (IEEE/ACM
Transactions on Networking, 1998) for rendezvous hashing; C. Schindelhauer, G. Schomaker,
"Weighted distributed hash tables" (SPAA 2005) for the logarithmic weights.
"""

from __future__ import annotations

from math import log


def distance(digest: bytes, weight: float) -> float:
    """How far a key is, where `digest`, 8 bytes, is a hash of it and of the place together.

    52 bits of it become a number strictly between 0 and 1, so that neither end is rounded to.
    """
    uniform = ((int.from_bytes(digest, "big") >> 12) + 0.5) * 2.0**-52
    return -log(uniform) / weight
