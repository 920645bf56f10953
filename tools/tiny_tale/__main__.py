"""`python -m tools.tiny_tale [all|train|export|check|card|adapters]`: make it, or examine it."""

import argparse
import sys
from pathlib import Path

FOLDER = Path(__file__).resolve().parents[2] / "models" / "tiny-tale"


def main() -> int:
    """Run the command; the exit status is 1 when the model fails its examination."""
    parser = argparse.ArgumentParser(prog="python -m tools.tiny_tale", description=__doc__)
    parser.add_argument(
        "command",
        nargs="?",
        default="all",
        choices=("all", "train", "export", "check", "card", "adapters"),
        help="all: train and card; train: new weights; export: the other files from the weights; "
        "check: the examination; card: the examination, and the model card that reports it; "
        "adapters: the LoRA adapters",
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: models/tiny-tale")
    parser.add_argument("--steps", type=int, help="fewer steps, for a first look at a change")
    arguments = parser.parse_args()
    if arguments.command in ("all", "train"):
        make(arguments.folder, arguments.steps)
    if arguments.command == "export":
        from .export import export

        export(arguments.folder)
    if arguments.command == "adapters":
        from .adapters import make as make_adapters

        make_adapters(arguments.folder)
    if arguments.command in ("all", "check", "card"):
        return judge(arguments.folder, card=arguments.command != "check")
    return 0


def make(folder: Path, steps: int | None) -> None:
    """Train and write what the engines read."""
    from .export import save
    from .train import Plan, train

    trained = train(Plan() if steps is None else Plan(steps=steps))
    save(trained.model, trained.tokenizer, folder)
    trained.record.write(folder)


def judge(folder: Path, *, card: bool) -> int:
    """Examine the model, print what went wrong, and write the card if it is wanted."""
    from .card import write_card
    from .check import examine

    examination = examine(folder)
    if card:
        write_card(folder, examination)
    for fault in examination.faults:
        print(fault)
    print(f"{len(examination.faults)} faults" if examination.faults else "all answers right")
    return 1 if examination.faults else 0


if __name__ == "__main__":
    sys.exit(main())
