"""What a row of the table says of a fault, and short ways to write one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from tests.faults.outcomes import MID_STREAM, Cells, NoCells
from tests.faults.speech import SAID, Speech
from tests.support.upstream import Script


@dataclass(frozen=True, kw_only=True)
class Fault:
    """What an engine does to one kind of request."""

    does: Callable[[Speech], Sequence[Script]]
    """Its scripts, one a request; the last one serves all that come after."""
    cells: Cells
    waits: Literal["first_token", "idle", "total"] | None = None
    """The timeout that ends it, and is short in its house."""
    refuses: bool = False
    """The port is closed: no script is ever reached."""
    padding: int = 0
    """Bytes by which the request is larger than usual."""
    said: str = SAID
    """The text of a whole answer."""
    begun: str = "Once"
    """What has come of one that breaks off."""
    turns: int = 1
    """Requests that are made, one after the other."""
    keeps: bool = False
    """Its connection is sound afterwards, and used for the next request."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One fault, for both kinds of request. None is left out without a reason."""

    stream: Fault | NoCells
    whole: Fault | NoCells


def both(
    does: Callable[[Speech], Sequence[Script]],
    cells: Cells,
    whole: Cells | None = None,
    *,
    waits: Literal["first_token"] | None = None,
    **more: object,
) -> Row:
    """The same steps for both; an answer in one piece has no first token, only its total time."""
    return Row(
        stream=Fault(does=does, cells=cells, waits=waits, **more),
        whole=Fault(
            does=does,
            cells=whole or cells,
            waits=None if waits is None else "total",
            **more,
        ),
    )


def either(
    streamed: Callable[[Speech], Sequence[Script]],
    whole: Callable[[Speech], Sequence[Script]],
    cells: Cells,
    **more: object,
) -> Row:
    """Other steps for each, and the same outcome."""
    return Row(
        stream=Fault(does=streamed, cells=cells, **more),
        whole=Fault(does=whole, cells=cells, **more),
    )


def after_content(does: Callable[[Speech], Script], **more: object) -> Fault:
    """A stream that breaks once the client has had something of it."""
    return Fault(does=lambda speech: [does(speech)], cells=MID_STREAM, **more)


NOT_IN_ONE_PIECE = NoCells("an answer in one piece has no events")
NO_STREAM = NoCells("what streams is never held back so long")
