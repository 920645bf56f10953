import mlx.core as mx
import pytest

from backends.inprocess.params import Sampling
from backends.mlx.sampling import RandomSampler, Samplers, greedy, logits_processors

PROBABILITIES = [0.5, 0.3, 0.15, 0.05]
LOGPROBS = mx.log(mx.array([PROBABILITIES]))


def drawn(sampling, seed=1, times=400):
    sampler = RandomSampler(sampling, seed)
    return [sampler(LOGPROBS).item() for _ in range(times)]


def processed(sampling, tokens, prompt_tokens):
    logits = mx.array([[1.0, 2.0, -1.0]])
    for process in logits_processors(sampling, prompt_tokens):
        logits = process(mx.array(tokens), logits)
    return logits[0].tolist()


@pytest.mark.parametrize(
    ("cut", "kept"),
    [
        ({"top_k": 2}, {0, 1}),
        ({"top_k": 100}, {0, 1, 2, 3}),
        ({"top_p": 0.7}, {0, 1}),
        ({"top_p": 0.9}, {0, 1, 2}),
        ({"top_p": 0.0}, {0}),
        ({"min_p": 0.2}, {0, 1, 2}),
        ({"min_p": 1.0}, {0}),
        ({"top_k": 3, "top_p": 0.7}, {0, 1}),
        # The temperature comes before the cut: at 4 the four are nearly alike.
        ({"temperature": 4.0, "top_p": 0.7}, {0, 1, 2}),
    ],
)
def test_cuts_leave_the_likeliest(cut, kept):
    assert set(drawn(Sampling(**cut))) == kept


def test_without_cuts_tokens_come_as_often_as_they_are_likely():
    tokens = drawn(Sampling(), times=2000)
    for token, probability in enumerate(PROBABILITIES):
        assert tokens.count(token) / 2000 == pytest.approx(probability, abs=0.05)


def test_the_same_seed_draws_the_same():
    assert drawn(Sampling(), seed=7) == drawn(Sampling(), seed=7) != drawn(Sampling(), seed=8)


@pytest.mark.parametrize("seed", [-1, 0, 2**64, -(2**63)])
def test_any_integer_is_a_seed(seed):
    assert len(drawn(Sampling(), seed=seed, times=2)) == 2


def test_rows_without_a_seed_share_a_sampler_and_rows_with_one_do_not():
    samplers = Samplers(lambda: 1)
    warm = Sampling(temperature=0.5)
    assert samplers.get(warm) is samplers.get(Sampling(temperature=0.5, presence_penalty=1))
    assert samplers.get(warm) is not samplers.get(Sampling(temperature=0.6))
    seeded = Sampling(temperature=0.5, seed=1)
    assert samplers.get(seeded) is not samplers.get(seeded)
    assert samplers.get(Sampling(temperature=0, seed=1)) is greedy


def test_shared_samplers_are_bounded():
    samplers = Samplers(lambda: 1)
    first = samplers.get(Sampling(temperature=1))
    for step in range(100):
        samplers.get(Sampling(temperature=2 + step))
    assert samplers.get(Sampling(temperature=1)) is not first


def test_penalties_of_the_answer_do_not_count_the_prompt():
    sampling = Sampling(frequency_penalty=0.5, presence_penalty=0.25)
    assert processed(sampling, [0, 0, 1], prompt_tokens=3) == [1.0, 2.0, -1.0]
    assert processed(sampling, [0, 0, 1, 1, 1, 2], prompt_tokens=3) == [1.0, 0.75, -1.75]


def test_the_repetition_penalty_counts_the_prompt_too():
    assert processed(Sampling(repetition_penalty=2), [0, 2], 1) == [0.5, 2.0, -2.0]


def test_bias():
    assert processed(Sampling(logit_bias=((1, -100), (2, 5))), [0], 1) == [1.0, -98.0, 4.0]


def test_nothing_is_processed_where_nothing_was_asked_for():
    assert logits_processors(Sampling(), 5) == []
