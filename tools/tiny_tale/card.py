"""The model card: the same weights always describe themselves with their own answers."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from string import Template

from .ask import Answer, Teller
from .check import FRESH, MIN_MARGIN, MIN_RIGHT, Examination
from .export import GGUF, WEIGHTS
from .grammar import facts
from .questions import WEATHER
from .record import Record
from .tokenizer import UNUSED

CARD = Path(__file__).with_name("card.md")

EXAMPLES = (
    "What is the capital of Spain?",
    "What is 3 + 4?",
    "Count from 1 to 30.",
    "Give me a JSON object with name and age for Tom, 7.",
    "Tell me a story about Mia.",
    "What can you do?",
    "Explain quantum mechanics.",
)
LONG = (
    "Count from 1 to 100.",
    "Tell me a story about Mia.",
    "Tell me a long story about Mia.",
    "Tell me a long story about Tom.",
)


def user(text: str) -> list[dict[str, str]]:
    """A conversation of one question."""
    return [{"role": "user", "content": text}]


def example(question: str, answer: Answer) -> str:
    """A question and its answer in Markdown."""
    quoted = "\n".join(f"> {line}".rstrip() for line in answer.text.splitlines())
    return f"**{question}**\n\n{quoted}"


def write_card(folder: Path, examination: Examination) -> None:
    """Write `README.md` into `folder`: how the weights came about, and what they answered."""
    teller = Teller.of(folder)
    text = Template(CARD.read_text(encoding="utf-8")).substitute(
        **promises(),
        **training(Record.of(folder)),
        **results(examination),
        parameters=f"{sum(p.numel() for p in teller.model.parameters()):,}",
        unused=sum(token.startswith(UNUSED) for token in teller.tokenizer.get_vocab()),
        weights=WEIGHTS,
        weights_size=size(folder / WEIGHTS),
        gguf=GGUF,
        gguf_size=size(folder / GGUF),
        examples="\n\n".join(examples(teller)),
        lengths="\n".join(f"| {text} | {len(teller.ask(user(text)).ids)} |" for text in LONG),
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def promises() -> dict[str, str]:
    """What the grammar holds, in words."""
    down = facts.COUNT_DOWN_FROM
    return {
        "names": ", ".join(facts.NAMES),
        "capitals": str(len(facts.CAPITALS)),
        "count_ends": in_words(facts.COUNT_ENDS),
        "count_down": f"{down[0]} to {down[-1]}",
    }


def training(record: Record) -> dict[str, str]:
    """How the weights came about, in words."""
    return {
        "steps": f"{record.steps:,}",
        "seed": str(record.seed),
        "tokens": f"{record.tokens / 1e6:.1f}",
        "loss": f"{record.loss:.3f}",
        "minutes": f"{record.seconds / 60:.0f}",
        "threads": "one thread" if record.threads == 1 else f"{record.threads} threads",
    }


def results(examination: Examination) -> dict[str, str]:
    """What the examination found, in words."""
    faults = len(examination.faults)
    rows = (
        f"| {section.name} | {section.asked} | {section.asked - len(section.faults)} "
        f"| {section.margin:.2f} |"
        for section in examination.sections
    )
    return {
        "verdict": f"not passed: {faults} faults" if faults else "passed",
        "sections": "\n".join(rows),
        "fresh": str(FRESH),
        "right": f"{examination.right:.1%}",
        "min_right": f"{MIN_RIGHT:.0%}",
        "min_margin": str(MIN_MARGIN),
    }


def in_words(numbers: Sequence[int]) -> str:
    """Rising numbers, runs of them shortened: "2 to 30, 50, 100"."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(str(run[0]) if len(run) == 1 else f"{run[0]} to {run[-1]}" for run in runs)


def examples(teller: Teller) -> Iterator[str]:
    """Questions and what the model says."""
    for question in EXAMPLES:
        yield example(question, teller.ask(user(question)))
    city = "What is the weather in Paris?"
    called = teller.ask(user(city), [WEATHER])
    yield f"**{city}** with the tool `get_weather(city)`\n\n```\n{called.text}\n```"


def size(path: Path) -> str:
    """The size of a file in megabytes."""
    return f"{path.stat().st_size / 1e6:.2f} MB"
