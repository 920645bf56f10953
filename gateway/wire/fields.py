"""The header fields of a request, found by name without a look at all of them.

Every request is asked for half a dozen names, most of which it does not have.
"""

from __future__ import annotations

from collections.abc import Sequence

from backends.base import Header


class Fields:
    """Header fields as they came, names in lower case, and an index of the names."""

    __slots__ = ("all", "first", "names")

    def __init__(self, fields: Sequence[Header] = ()) -> None:
        self.all = fields
        """In the order in which they came."""
        index = dict(reversed(fields))
        self.first = index.get
        """The value of the first field of a name; None where there is none."""
        self.names = index.keys()
        """Each name once."""

    def every(self, name: bytes) -> list[bytes]:
        """The values of all fields called `name`, in their order."""
        if name not in self.names:
            return []
        return [value for found, value in self.all if found == name]
