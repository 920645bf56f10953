"""What the grammar of Tiny Tale promises, without the libraries that training needs."""

from __future__ import annotations

import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
from safetensors.numpy import load_file

from tools.tiny_tale import adapter_files
from tools.tiny_tale.grammar import facts, stories
from tools.tiny_tale.grammar.mix import sample
from tools.tiny_tale.grammar.questions import counting, one_exchange
from tools.tiny_tale.grammar.samples import Conversation
from tools.tiny_tale.grammar.stories import DAYS, RING, Plot, long_story, preferred, story
from tools.tiny_tale.grammar.tools import tool_use

RINGS = (
    "ADJECTIVES", "PETS", "HOMES", "FEELINGS", "PLACES", "THINGS", "FRIENDS", "WEATHERS", "DEEDS",
)  # fmt: skip


def test_the_same_seed_gives_the_same_samples():
    one, other = Random(7), Random(7)
    assert [sample(one) for _ in range(50)] == [sample(other) for _ in range(50)]


def test_a_question_has_one_answer():
    answers: dict[str, str] = {}
    rng = Random(1)
    for _ in range(20_000):
        question, answer = (message["content"] for message in one_exchange(rng))
        if not answer.startswith("Once upon a time"):
            assert answers.setdefault(question, answer) == answer


def test_every_conversation_ends_with_an_answer():
    rng = Random(2)
    for item in (sample(rng) for _ in range(2000)):
        if isinstance(item, Conversation):
            assert item.messages[-1]["role"] == "assistant"


def test_counting_ends_where_the_card_says():
    rng, up, down = Random(3), set(), set()
    for _ in range(5000):
        numbers = [int(number) for number in counting(rng)[1]["content"][:-1].split(", ")]
        if numbers[0] == 1:
            assert numbers == list(range(1, numbers[-1] + 1))
            up.add(numbers[-1])
        else:
            assert numbers == list(range(numbers[0], 0, -1))
            down.add(numbers[0])
    assert up == set(facts.COUNT_ENDS)
    assert down == set(facts.COUNT_DOWN_FROM)


def test_a_call_is_of_a_tool_that_is_offered_and_of_a_city_in_the_question():
    rng = Random(4)
    for _ in range(1000):
        conversation = tool_use(rng)
        (call,) = conversation.messages[1]["tool_calls"]
        city = json.loads(call["function"]["arguments"])["city"]
        assert city in facts.CITIES
        assert city.lower() in conversation.messages[0]["content"].lower()
        offered = [tool["function"]["name"] for tool in conversation.tools]
        assert call["function"]["name"] in offered


@pytest.mark.parametrize("ring", RINGS)
def test_a_ring_tells_where_the_others_begin(ring):
    parts = getattr(stories, ring)
    assert len(set(parts)) == len(parts) == RING


def test_two_choices_make_a_story():
    for telling in (story, long_story):
        told = {telling(Plot("Mia", hero, way)) for hero in range(RING) for way in range(RING)}
        assert len(told) == RING * RING


def test_a_long_story_has_a_day_in_each_paragraph():
    first, *days, last = long_story(Plot("Tom", 2, 5)).split("\n\n")
    assert first.startswith("Once upon a time, there was a kind boy named Tom. He lived")
    assert [text.split(",")[0] for text in days] == [f"On {day}" for day in DAYS]
    assert last.endswith("The end.")


def test_a_name_prefers_the_same_in_every_process():
    assert [preferred(name, "hero") for name in ("Lily", "Mia", "Tom")] == [5, 2, 5]


ADAPTERS = Path(__file__).parents[2] / "models" / "tiny-tale" / "adapters"


@pytest.mark.parametrize("name", ["a", "b"])
def test_an_adapter_is_the_same_for_every_engine(name):
    folder = ADAPTERS / name
    deltas = adapter_files.load_peft(folder / adapter_files.PEFT)
    assert len(deltas) == 4 * len(adapter_files.PROJECTIONS)
    mlx = load_file(folder / adapter_files.MLX)
    for matrix, (a, b) in deltas.items():
        assert np.array_equal(mlx[f"{matrix}.lora_a"].T, a)
        assert np.array_equal(mlx[f"{matrix}.lora_b"].T, b)
    gguf = (folder / adapter_files.GGUF).read_bytes()
    config = json.loads((ADAPTERS.parent / "config.json").read_text())
    for matrix, (a, b) in deltas.items():
        assert a.tobytes() in gguf
        assert adapter_files.neighbours(matrix, b, config).tobytes() in gguf


def test_the_adapters_differ():
    one, other = (adapter_files.load_peft(ADAPTERS / name / adapter_files.PEFT) for name in "ab")
    assert one.keys() == other.keys()
    assert all(not np.array_equal(one[matrix][1], other[matrix][1]) for matrix in one)
