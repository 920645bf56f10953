"""The figures of a training, kept next to its weights so that the card can always tell them."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

FILE = "training.json"


@dataclass(frozen=True, slots=True)
class Record:
    """How weights came about: what was planned, what was read, and what it took.

    `tokens` counts all that were read, padding included; `loss` is in nats per written token, an
    average over about the last 50 steps.
    """

    seed: int
    steps: int
    tokens: int
    loss: float
    seconds: float
    threads: int

    @classmethod
    def of(cls, folder: Path) -> "Record":
        """Read the record of the weights in `folder`."""
        return cls(**json.loads((folder / FILE).read_text(encoding="utf-8")))

    def write(self, folder: Path) -> None:
        """Keep the record in `folder`."""
        (folder / FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
