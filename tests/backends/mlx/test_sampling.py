import mlx.core as mx
import pytest

from backends.inprocess.params import Sampling
from backends.mlx.sampling import BatchSampler, Row, stream_key

PROBABILITIES = [0.5, 0.3, 0.15, 0.05]
LOGITS = mx.log(mx.array(PROBABILITIES))
WIDE = mx.random.normal((500,), key=mx.random.key(1)) * 3


def rows_of(samplings, prompt_tokens=1):
    return [Row(sampling, seed=1, prompt_tokens=prompt_tokens) for sampling in samplings]


def drawn(*samplings, times=400, logits=LOGITS):
    """What each row draws, all in one batch: a list for each."""
    rows = rows_of(samplings)
    sampler = BatchSampler(rows, [[]] * len(rows), logits.shape[0])
    batch = mx.broadcast_to(logits, (len(rows), logits.shape[0]))
    inputs = mx.zeros((len(rows),), dtype=mx.uint32)
    return list(
        map(list, zip(*(sampler(batch, inputs)[0].tolist() for _ in range(times)), strict=True))
    )


def scores(sampling, tokens, prompt_tokens, logits=(1.0, 2.0, -1.0)):
    """The logits that `sampling` makes of `logits`, told by what a bias has to make up for."""
    *read, last = tokens
    row = Row(sampling, prompt_tokens=prompt_tokens)
    sampler = BatchSampler([row], [read], len(logits))
    seen = mx.array([logits])
    if sampler._penalties is not None:
        seen = sampler._penalties(seen, mx.array([last]))
    if sampler._bias is not None:
        seen = seen + sampler._bias
    return seen[0].tolist()


CUTS = [
    ({"top_k": 2}, {0, 1}),
    ({"top_k": 100}, {0, 1, 2, 3}),
    ({"top_k": 1000}, {0, 1, 2, 3}),
    ({"top_p": 0.7}, {0, 1}),
    ({"top_p": 0.9}, {0, 1, 2}),
    ({"top_p": 0.0}, {0}),
    ({"min_p": 0.2}, {0, 1, 2}),
    ({"min_p": 1.0}, {0}),
    ({"top_k": 3, "top_p": 0.7}, {0, 1}),
    # The temperature comes before the cut: at 4 the four are nearly alike.
    ({"temperature": 4.0, "top_p": 0.7}, {0, 1, 2}),
    ({"temperature": 0.0}, {0}),
    ({}, {0, 1, 2, 3}),
]


@pytest.mark.parametrize(("cut", "kept"), CUTS)
def test_cuts_leave_the_likeliest(cut, kept):
    assert set(drawn(Sampling(**cut))[0]) == kept


def test_rows_of_all_kinds_are_cut_each_as_it_asks():
    found = drawn(*(Sampling(**cut) for cut, _ in CUTS))
    assert [set(tokens) for tokens in found] == [kept for _, kept in CUTS]


ALL_KINDS = [
    Sampling(seed=7),
    Sampling(seed=7, temperature=0.5),
    Sampling(temperature=0.0),
    Sampling(seed=8, top_k=5),
    Sampling(seed=9, top_p=0.8),
    Sampling(seed=9, top_p=0.8, top_k=300),
    Sampling(seed=9, top_p=0.8, top_k=20, min_p=0.01),
    Sampling(seed=10, frequency_penalty=1.0),
    Sampling(seed=10, logit_bias=((3, 5.0),)),
    Sampling(seed=11, min_p=0.1),
]


@pytest.mark.parametrize("sampling", ALL_KINDS)
def test_a_row_draws_the_same_alone_and_in_company(sampling):
    alone = drawn(sampling, times=50, logits=WIDE)[0]
    company = drawn(*ALL_KINDS, times=50, logits=WIDE)
    assert company[ALL_KINDS.index(sampling)] == alone


def test_a_row_goes_on_where_it_was_when_the_batch_changes():
    row = Row(Sampling(seed=5), prompt_tokens=2)
    one = mx.zeros((1,), dtype=mx.uint32)
    whole = BatchSampler([row], [[0]], 500)
    unbroken = [whole(WIDE[None], one)[0].item() for _ in range(6)]
    first = BatchSampler([row], [[0]], 500)
    broken = [first(WIDE[None], one)[0].item() for _ in range(3)]
    read = [0, 0, *broken[:-1]]
    then = BatchSampler([Row(Sampling()), row], [[1], read], 500)
    both = mx.stack([WIDE, WIDE])
    broken += [then(both, mx.zeros((2,), dtype=mx.uint32))[0][1].item() for _ in range(3)]
    assert broken == unbroken


def test_without_cuts_tokens_come_as_often_as_they_are_likely():
    (tokens,) = drawn(Sampling(), times=2000)
    for token, probability in enumerate(PROBABILITIES):
        assert tokens.count(token) / 2000 == pytest.approx(probability, abs=0.05)


def test_neighbouring_seeds_and_rows_are_unrelated():
    first, second = drawn(Sampling(seed=7), Sampling(seed=8), times=2000)
    both = sum(a == b for a, b in zip(first, second, strict=True)) / 2000
    assert both == pytest.approx(sum(p * p for p in PROBABILITIES), abs=0.05)
    shifted = sum(a == b for a, b in zip(first[1:], second, strict=False)) / 2000
    assert shifted == pytest.approx(sum(p * p for p in PROBABILITIES), abs=0.05)


def test_the_same_seed_draws_the_same():
    seeds = [7, 7, 8]
    first, again, other = drawn(*(Sampling(seed=seed) for seed in seeds))
    assert first == again != other


@pytest.mark.parametrize("seed", [-1, 0, 2**64, -(2**63), 10**40])
def test_any_integer_is_a_seed(seed):
    assert all(0 <= half < 2**32 for half in stream_key(seed))
    assert len(drawn(Sampling(seed=seed), times=2)[0]) == 2


def test_penalties_of_the_answer_do_not_count_the_prompt():
    sampling = Sampling(frequency_penalty=0.5, presence_penalty=0.25)
    assert scores(sampling, [0, 0, 1], prompt_tokens=3) == [1.0, 2.0, -1.0]
    assert scores(sampling, [0, 0, 1, 1, 1, 2], prompt_tokens=3) == [1.0, 0.75, -1.75]


def test_the_repetition_penalty_counts_the_prompt_too():
    assert scores(Sampling(repetition_penalty=2), [0, 2], 1) == [0.5, 2.0, -2.0]
    assert scores(Sampling(repetition_penalty=2), [0, 2], 2) == [0.5, 2.0, -2.0]


def test_bias():
    assert scores(Sampling(logit_bias=((1, -100), (2, 5))), [0], 1) == [1.0, -98.0, 4.0]


def test_a_penalty_leaves_other_rows_alone():
    rows = [
        Row(Sampling(temperature=0, frequency_penalty=2.0), prompt_tokens=1),
        Row(Sampling(temperature=0), prompt_tokens=1),
    ]
    sampler = BatchSampler(rows, [[], []], 3)
    logits = mx.array([[3.0, 2.0, 1.5]] * 2)
    inputs, out = mx.array([0, 0], dtype=mx.uint32), []
    for _ in range(4):
        inputs, _ = sampler(logits, inputs)
        out.append(inputs.tolist())
    assert out == [[0, 0], [1, 0], [2, 0], [0, 0]]


def test_nothing_is_processed_where_nothing_was_asked_for():
    sampler = BatchSampler(rows_of([Sampling()]), [[]], 4)
    assert (sampler._penalties, sampler._bias, sampler._mask, sampler._logprobs) == (None,) * 4
