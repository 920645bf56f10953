"""`python -m tools.tiny_tale [all|train|export|check]`: make the model, or examine it."""

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
        choices=("all", "train", "export", "check"),
        help="train: weights and card; export: every other file again; check: ask the questions",
    )
    parser.add_argument("--folder", type=Path, default=FOLDER, help="default: models/tiny-tale")
    parser.add_argument("--steps", type=int, help="fewer steps, for a first look at a change")
    arguments = parser.parse_args()
    if arguments.command in ("all", "train"):
        make(arguments.folder, arguments.steps)
    if arguments.command == "export":
        from .export import export

        export(arguments.folder)
    return examine(arguments.folder) if arguments.command in ("all", "check") else 0


def make(folder: Path, steps: int | None) -> None:
    """Train and write every file."""
    from .card import write_card
    from .export import save
    from .train import Plan, train

    plan = Plan() if steps is None else Plan(steps=steps)
    trained = train(plan)
    save(trained.model, trained.tokenizer, folder)
    write_card(folder, trained, plan)


def examine(folder: Path) -> int:
    """Ask the questions and print what went wrong."""
    from .check import check

    faults = check(folder)
    for fault in faults:
        print(fault)
    print(f"{len(faults)} faults" if faults else "all answers right")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
