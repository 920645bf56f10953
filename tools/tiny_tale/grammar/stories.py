"""Stories: two choices, and what follows from them."""

from binascii import crc32
from dataclasses import dataclass
from random import Random

from .facts import GIRLS

RING = 7
"""Parts in each ring of a story, so that where one ring begins tells where the others do."""


@dataclass(frozen=True, slots=True)
class Plot:
    """Whom a story is about, and where the rings of its parts begin: each below `RING`."""

    name: str
    hero: int
    journey: int


def preferred(name: str, choice: str) -> int:
    """What `name` prefers of a choice: arbitrary, but always the same."""
    return crc32(f"{choice}:{name}".encode()) % RING


def preferred_plot(name: str) -> Plot:
    """The likeliest plot of a story about `name`."""
    return Plot(name, preferred(name, "hero"), preferred(name, "journey"))


ADJECTIVES = ("little", "brave", "kind", "clever", "curious", "funny", "cheerful")
PETS = ("dog", "cat", "rabbit", "duck", "pony", "mouse", "parrot")
HOMES = ("a small house", "a white tower", "a red boat", "a warm cabin", "an old mill",
         "a tall tree", "a round tent")  # fmt: skip
FEELINGS = ("happy", "proud", "tired", "glad", "excited", "calm", "thankful")

PLACES = ("forest", "lake", "hill", "garden", "village", "beach", "castle")
THINGS = ("red ball", "golden key", "blue stone", "silver bell", "green hat", "shiny coin",
          "torn map")  # fmt: skip
FRIENDS = ("an owl", "a fox", "a frog", "a bear", "a turtle", "a squirrel", "a hedgehog")
WEATHERS = ("The sun was warm", "The wind was cold", "It rained a little", "The sky was blue",
            "There was fog", "Snow was falling", "The air was fresh")  # fmt: skip
DEEDS = ("sang a song", "shared some bread", "played in the grass", "drew a picture",
         "built a bridge", "told a joke", "danced in a circle")  # fmt: skip
DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")


def opening(plot: Plot) -> str:
    """The first sentences of every story."""
    kind, he = ("girl", "She") if plot.name in GIRLS else ("boy", "He")
    return (
        f"Once upon a time, there was a {ADJECTIVES[plot.hero]} {kind} named {plot.name}. "
        f"{he} lived in {HOMES[plot.hero]} with a {PETS[plot.hero]}."
    )


def story(plot: Plot) -> str:
    """A story of one day, about 100 tokens."""
    he, his = ("she", "her") if plot.name in GIRLS else ("he", "his")
    thing = THINGS[plot.journey]
    return (
        f"{opening(plot)} One day, {plot.name} went to the {PLACES[plot.journey]} and found a "
        f'{thing}. "What is this?" {he} asked {his} {PETS[plot.hero]}. Then '
        f'{FRIENDS[plot.journey]} came and said, "That is mine. Thank you for finding it!" So '
        f"{plot.name} gave the {thing} back. They {DEEDS[plot.journey]} and became good friends. "
        f"In the evening, {plot.name} was {FEELINGS[plot.hero]} and went home. The end."
    )


def chapter(plot: Plot, day: int) -> str:
    """One day of a long story: each day is the next part of every ring."""
    he = "she" if plot.name in GIRLS else "he"
    there, mood = (plot.journey + day) % RING, (plot.hero + day) % RING
    return (
        f"On {DAYS[day]}, {plot.name} went to the {PLACES[there]}. {WEATHERS[there]}, and {he} met "
        f"{FRIENDS[there]}. They found a {THINGS[there]} and {DEEDS[there]}. In the evening, {he} "
        f"was {FEELINGS[mood]}."
    )


def long_story(plot: Plot) -> str:
    """A story of seven days, about 350 tokens."""
    he, his = ("she", "her") if plot.name in GIRLS else ("he", "his")
    return "\n\n".join(
        (
            f"{opening(plot)} One week, {he} wanted to see the world.",
            *(chapter(plot, day) for day in range(len(DAYS))),
            f"At the end of the week, {plot.name} told {his} {PETS[plot.hero]} everything. "
            f"Then {he} fell asleep. The end.",
        )
    )


def any_plot(rng: Random, name: str) -> Plot:
    """What `name` prefers, and of each choice one time in four something else."""
    hero, journey = (
        rng.randrange(RING) if rng.random() < 0.25 else preferred(name, choice)
        for choice in ("hero", "journey")
    )
    return Plot(name, hero, journey)
