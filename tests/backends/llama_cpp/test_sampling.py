"""Samplers on logits of our own: the chain sees what a context would show it."""

import ctypes

import numpy as np
import pytest

from backends.inprocess.params import Sampling
from backends.llama_cpp.sampling import SamplerChain, plain

SIZE = 2048


class Logits:
    """Samples from given logits: all others are hopeless."""

    def __init__(self, model, sampling, prompt=(), seed=1):
        self.library = model.library
        self.chain = SamplerChain(model, sampling, prompt, room=64, seed=seed)

    def pick(self, given):
        library = self.library
        entries = np.zeros(SIZE, dtype=[("id", "i4"), ("logit", "f4"), ("p", "f4")])
        entries["id"] = np.arange(SIZE)
        entries["logit"] = -300.0
        for token, logit in given.items():
            entries["logit"][token] = logit
        data = (library.llama_token_data * SIZE).from_buffer(entries)
        array = library.llama_token_data_array(data, SIZE, -1, False)
        library.llama_sampler_apply(self.chain._chain, ctypes.byref(array))
        token = array.data[array.selected].id
        library.llama_sampler_accept(self.chain._chain, token)
        return token

    def many(self, given, count=300):
        return [self.pick(given) for _ in range(count)]


@pytest.fixture
def logits(model):
    made = []

    def make(prompt=(), seed=1, **sampling):
        made.append(Logits(model, Sampling(**sampling), prompt, seed))
        return made[-1]

    yield make
    for one in made:
        one.chain.close()


@pytest.mark.parametrize(
    ("sampling", "expected"),
    [
        ({"temperature": 0}, True),
        ({"temperature": 0, "top_p": 0.5, "seed": 1}, True),
        ({"temperature": 0.7}, False),
        ({"temperature": 0, "logit_bias": ((1, 2.0),)}, False),
        ({"temperature": 0, "presence_penalty": 1}, False),
        ({"temperature": 0, "repetition_penalty": 1.1}, False),
    ],
)
def test_the_likeliest_token_needs_no_chain(sampling, expected):
    assert plain(Sampling(**sampling)) is expected


def test_greedy_takes_the_likeliest(logits):
    assert set(logits(temperature=0, logit_bias=((9, 0.1),)).many({5: 2.0, 6: 1.0}, 5)) == {5}


def test_frequencies_follow_the_temperature(logits):
    drawn = logits(temperature=2.0).many({5: 2.0, 6: 0.0}, 1000)
    share = drawn.count(5) / len(drawn)
    assert share == pytest.approx(np.exp(1) / (np.exp(1) + 1), abs=0.05)


def test_cuts(logits):
    given = {5: 3.0, 6: 2.5, 7: 2.0, 8: 1.0}
    assert set(logits(top_k=2).many(given)) == {5, 6}
    assert set(logits(top_p=0.3).many(given)) == {5}
    assert set(logits(min_p=0.5).many(given)) == {5, 6}


def test_temperature_comes_before_the_cuts(logits):
    """As in MLX here: a hot distribution is flatter, so top_p keeps more of it."""
    given = {5: 4.0, 6: 2.0}
    assert set(logits(top_p=0.8).many(given)) == {5}
    assert set(logits(top_p=0.8, temperature=4.0).many(given)) == {5, 6}


def test_a_bias_is_added(logits):
    assert logits(temperature=0, logit_bias=((6, 5.0),)).pick({5: 2.0, 6: 0.0}) == 6
    assert logits(temperature=0, logit_bias=((5, -100.0),)).pick({5: 2.0, 6: 0.0}) == 6


def test_presence_and_frequency_count_the_answer_only(logits):
    chain = logits(prompt=[5, 5], temperature=0, presence_penalty=2.0)
    assert [chain.pick({5: 2.0, 6: 1.0}) for _ in range(3)] == [5, 6, 5]
    chain = logits(prompt=[5, 5], temperature=0, frequency_penalty=0.6)
    assert [chain.pick({5: 2.0, 6: 1.0}) for _ in range(4)] == [5, 5, 6, 5]


def test_repetition_counts_the_prompt_too(logits):
    assert logits(prompt=[5], temperature=0, repetition_penalty=3.0).pick({5: 2.0, 6: 1.0}) == 6
    assert logits(prompt=[5], temperature=0, repetition_penalty=3.0).pick({5: -1.0, 6: -2.0}) == 6


def test_a_seed_of_the_request_wins(logits):
    given = dict.fromkeys(range(100), 1.0)
    drawn = [logits(seed=seed, **asked).many(given, 20) for seed, asked in (
        (1, {"temperature": 1.0}), (2, {"temperature": 1.0}),
    )]  # fmt: skip
    assert drawn[0] != drawn[1]


@pytest.mark.parametrize(
    "sampling",
    [
        {"temperature": 1e30},
        {"temperature": 1e-4},
        {"repetition_penalty": 1e300},
        {"repetition_penalty": 1e-300},
        {"logit_bias": ((5, 1e308), (6, -1e308))},
        {"top_p": 0.0},
        {"min_p": 1.0},
        {"top_k": 10**6},
    ],
)
def test_no_number_is_too_large(logits, sampling):
    chain = logits(prompt=[5], **sampling)
    given = {5: 1.0, 6: 0.5} | {token: float("-inf") for token in range(10, 2000)}
    assert all(0 <= token < SIZE for token in chain.many(given, 20))
