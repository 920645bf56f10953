"""The model card: the same weights always describe themselves with their own answers."""

from pathlib import Path
from string import Template

from .ask import Answer, Teller
from .check import WEATHER
from .export import GGUF, WEIGHTS
from .train import Plan, Trained

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


def write_card(folder: Path, trained: Trained, plan: Plan) -> None:
    """Write `README.md` into `folder` from the figures of a training and the model's answers."""
    teller = Teller.of(folder)
    examples = [example(question, teller.ask(user(question))) for question in EXAMPLES]
    city = "What is the weather in Paris?"
    called = teller.ask(user(city), [WEATHER])
    examples.append(f"**{city}** with the tool `get_weather(city)`\n\n```\n{called.text}\n```")
    lengths = "\n".join(f"| {text} | {len(teller.ask(user(text)).ids)} |" for text in LONG)
    text = Template(CARD.read_text(encoding="utf-8")).substitute(
        parameters=f"{sum(p.numel() for p in trained.model.parameters()):,}",
        steps=f"{plan.steps:,}",
        seed=plan.seed,
        tokens=f"{trained.tokens / 1e6:.1f}",
        loss=f"{trained.loss:.3f}",
        weights=WEIGHTS,
        weights_size=size(folder / WEIGHTS),
        gguf=GGUF,
        gguf_size=size(folder / GGUF),
        examples="\n\n".join(examples),
        lengths=lengths,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def size(path: Path) -> str:
    """The size of a file in megabytes."""
    return f"{path.stat().st_size / 1e6:.2f} MB"
