import math

import numpy as np
import pytest

from backends.inprocess.params import Sampling
from backends.inprocess.runtime import SequenceSpec, Token

GREEDY = Sampling(temperature=0)


@pytest.fixture
def runtime(model):
    from backends.llama_cpp.runtime import LlamaCppRuntime, Settings

    made = LlamaCppRuntime(model, Settings(context=256, max_batch=3, threads=1, prefill=16))
    yield made
    made.close()


def spec(runtime, text="Once upon a time", **more):
    prompt = runtime.prompts.text(text) if isinstance(text, str) else text
    return SequenceSpec(**{"prompt": prompt, "max_tokens": 8, "sampling": GREEDY, **more})


def insert(runtime, *args, **more):
    faults = []
    return runtime.insert(spec(runtime, *args, **more), faults.append), faults


def finish(runtime, *uids):
    """Step until these are over; their tokens by id."""
    tokens = {uid: [] for uid in uids}
    for _ in range(1000):
        for token in runtime.step():
            tokens[token.uid].append(token)
        if all(tokens[uid] and (tokens[uid][-1].ended or tokens[uid][-1].cut) for uid in uids):
            runtime.remove(uids)
            return tokens
    raise AssertionError("they go on")


def test_nothing_to_do_is_no_step(runtime):
    assert runtime.step() == []
    uid, _ = insert(runtime)
    runtime.remove([uid, uid, 999])
    assert runtime.step() == []


def test_a_long_prompt_is_read_in_pieces(runtime):
    uid, _ = insert(runtime, [5] * 40, max_tokens=1)
    assert [len(runtime.step()) for _ in range(3)] == [0, 0, 1]
    runtime.remove([uid])


def test_a_piece_of_a_prompt_and_the_next_tokens_are_one_step(runtime):
    first, _ = insert(runtime, ignore_eos=True)
    runtime.step()
    second, _ = insert(runtime, [5] * 40, ignore_eos=True)
    uids = [[token.uid for token in runtime.step()] for _ in range(3)]
    assert uids == [[first], [first], [first, second]]
    runtime.remove([first, second])


def test_the_last_token_allowed_is_told(runtime):
    uid, _ = insert(runtime, ignore_eos=True, max_tokens=3)
    tokens = finish(runtime, uid)[uid]
    assert [token.cut for token in tokens] == [False, False, True]
    assert runtime.step() == []


def test_the_end_is_told_and_can_be_ignored(runtime):
    question = "<|im_start|>user\nWhat is 3 + 4?<|im_end|>\n<|im_start|>assistant\n"
    uid, _ = insert(runtime, question, max_tokens=50)
    tokens = finish(runtime, uid)[uid]
    assert tokens[-1].ended
    uid, _ = insert(runtime, question, max_tokens=50, ignore_eos=True)
    longer = finish(runtime, uid)[uid]
    assert len(longer) == 50
    assert [t.token for t in longer[: len(tokens)]] == [t.token for t in tokens]
    assert not any(token.ended for token in longer)


def test_sequences_come_and_go_without_changing_one_another(runtime):
    alone, _ = insert(runtime, max_tokens=30)
    expected = [token.token for token in finish(runtime, alone)[alone]]
    uid, _ = insert(runtime, max_tokens=30)
    got = []
    other = None
    for step in range(200):
        if step % 3 == 0:
            if other is not None:
                runtime.remove([other])
            other, _ = insert(runtime, [7 + step] * (1 + step % 20), ignore_eos=True)
        got += [token.token for token in runtime.step() if token.uid == uid]
        if len(got) == 30:
            break
    assert got == expected


@pytest.mark.parametrize(
    "more",
    [{"text": []}, {"text": [5] * 250}, {"text": [2048]}, {"text": [-1]}, {"max_tokens": 0}],
)
def test_what_llama_cpp_would_not_survive_does_not_reach_it(runtime, more):
    with pytest.raises(ValueError, match=r"do not fit|token ids go"):
        runtime.insert(spec(runtime, **more), lambda _: None)


class _NoMatcher:
    def matcher(self, on_fault):
        raise RuntimeError("no matcher")


def test_an_insert_that_fails_gives_its_slot_back(runtime, monkeypatch):
    library = runtime._library
    freed, made = [], []

    class Watched:
        def __getattr__(self, name):
            return getattr(library, name)

        def llama_sampler_chain_init(self, params):
            made.append(library.llama_sampler_chain_init(params))
            return made[-1]

        def llama_sampler_init_dist(self, seed):
            raise RuntimeError("no sampler")

        def llama_sampler_free(self, chain):
            freed.append(chain)
            library.llama_sampler_free(chain)

    monkeypatch.setattr(runtime._model, "library", Watched())
    for _ in range(4):
        with pytest.raises(RuntimeError, match="no sampler"):
            insert(runtime, sampling=Sampling(seed=1))
        with pytest.raises(RuntimeError, match="no matcher"):
            insert(runtime, grammar=_NoMatcher())
    assert freed == made, "and the native chains"
    monkeypatch.undo()
    uids = [insert(runtime, ignore_eos=True, max_tokens=3)[0] for _ in range(3)]
    assert all(len(tokens) == 3 for tokens in finish(runtime, *uids).values())


def test_a_long_text_is_embedded_in_pieces(model):
    from backends.llama_cpp.runtime import LlamaCppRuntime, Settings

    runtime = LlamaCppRuntime(model, Settings(context=1024, max_batch=1, threads=1, prefill=16))

    def pieces(*prompts):
        work = runtime.embed(prompts)
        yields = 0
        try:
            while True:
                next(work)
                yields += 1
        except StopIteration as end:
            return yields, end.value

    yields, (long, short) = pieces([5] * 1000, [6] * 10)
    assert yields == 3, "pieces of 256 tokens"
    left = runtime.embed([[7] * 1000])
    next(left)  # its client leaves
    assert pieces([6] * 10) == (0, [short])
    assert pieces([5] * 1000) == (3, [long])
    runtime.close()


def test_logits_that_are_no_numbers_are_one_sequences_fault(runtime, monkeypatch):
    good, good_faults = insert(runtime, ignore_eos=True)
    bad, bad_faults = insert(runtime, [9], ignore_eos=True, sampling=Sampling(seed=1))
    rows = runtime._rows

    def spoiled(count):
        found = rows(count)
        found[1, 3] = math.nan
        return found

    monkeypatch.setattr(runtime, "_rows", spoiled)
    tokens = runtime.step()
    assert {token.uid for token in tokens} == {good, bad}
    assert not good_faults
    assert "no numbers" in str(bad_faults[0])
    monkeypatch.undo()
    assert [token.uid for token in runtime.step()] == [good]
    runtime.remove([good, bad])


def test_what_was_computed_is_used_again(runtime):
    uid, _ = insert(runtime, [5, 6, 7, 8], max_tokens=4, ignore_eos=True)
    answer = [token.token for token in finish(runtime, uid)[uid]]
    again, _ = insert(runtime, [5, 6, 7, 8, *answer], max_tokens=1)
    assert runtime.cached_tokens(again) == 7, "the last token was never computed"
    assert runtime.cache_counts[:2] == (4 + 8, 7)
    salted, _ = insert(runtime, [5, 6, 7, 8], cache_salt="x")
    assert runtime.cached_tokens(salted) == 0
    runtime.remove([again, salted])
    assert runtime.cache_counts.nbytes > 0


def test_after_a_failed_step_it_begins_anew(runtime, monkeypatch):
    insert(runtime)
    library = runtime._library

    class Failing:
        def __getattr__(self, name):
            return getattr(library, name)

        def llama_decode(self, context, batch):
            return 1

    monkeypatch.setattr(runtime, "_library", Failing())
    with pytest.raises(RuntimeError, match="status 1"):
        runtime.step()
    monkeypatch.undo()
    runtime.reset()
    assert runtime.cache_counts.nbytes == 0
    uid, _ = insert(runtime, max_tokens=2, ignore_eos=True)
    assert runtime.cached_tokens(uid) == 0
    assert isinstance(finish(runtime, uid)[uid][0], Token)


def test_logprobs_are_of_the_model_whatever_is_forbidden_or_preferred(runtime):
    plain, _ = insert(runtime, max_tokens=1, top_logprobs=2)
    first = finish(runtime, plain)[plain][0].logprobs
    runner_up = first.top[1][0]
    bias = Sampling(temperature=0, logit_bias=((runner_up, 100.0),))
    other, _ = insert(runtime, max_tokens=1, top_logprobs=2, sampling=bias)
    found = finish(runtime, other)[other][0]
    assert found.token == runner_up
    assert np.allclose(
        [value for _, value in found.logprobs.top], [value for _, value in first.top], atol=1e-4
    )
