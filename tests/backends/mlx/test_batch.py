"""The batch, on the model that ships: rows come and go, and none notices the others."""

import pytest

from backends.inprocess.params import Sampling
from backends.inprocess.runtime import SequenceSpec
from backends.mlx.model import load
from tests.support.constraints import one_value

SAMPLINGS = [
    Sampling(temperature=0),
    Sampling(seed=1),
    Sampling(seed=1, temperature=0.7, top_p=0.9, top_k=20),
    Sampling(seed=2, top_p=0.8),
    Sampling(seed=3, min_p=0.05, frequency_penalty=0.5),
    Sampling(temperature=0, repetition_penalty=1.3, presence_penalty=0.2),
    Sampling(seed=4, logit_bias=((5, 3.0), (9, -100.0))),
    Sampling(seed=5, temperature=1.5),
]


@pytest.fixture(scope="module")
def runtime(model_dir):
    runtime = load(str(model_dir), max_batch=8, prompt_cache=0)
    yield runtime
    runtime.close()


def spec(runtime, at, **more):
    prompt = runtime.prompts.text(["Once upon a time", "Tom is", "The capital of Spain is"][at % 3])
    more.setdefault("max_tokens", 24 + 5 * at)
    return SequenceSpec(prompt=prompt, sampling=SAMPLINGS[at], ignore_eos=True, **more)


def generated(runtime, specs, *, every=0):
    """What each sequence says; all begin at once, or `every` steps apart."""
    faults, tokens, uids, left = [], {}, [], list(specs)
    steps = 0
    while left or any(not said or not said[-1].cut for said in tokens.values()):
        while left and (not every or steps % every == 0):
            uids.append(runtime.insert(left.pop(0), faults.append))
            tokens[uids[-1]] = []
            if every:
                break
        for token in runtime.step():
            tokens[token.uid].append(token)
        steps += 1
    runtime.remove(uids)
    assert faults == []
    return [[token.token for token in tokens[uid]] for uid in uids]


@pytest.mark.slow
def test_any_company_gives_the_same_tokens(runtime):
    specs = [spec(runtime, at) for at in range(8)]
    alone = [generated(runtime, [one])[0] for one in specs]
    assert generated(runtime, specs) == alone
    assert generated(runtime, specs, every=3) == alone
    assert [len(said) for said in alone] == [one.max_tokens for one in specs]


def test_a_grammar_beside_others_changes_only_its_own_row(runtime):
    grammar = runtime.compile(one_value('{"enum":["a long constant answer"]}', "x"))
    free = [spec(runtime, at) for at in (0, 1)]
    alone = [generated(runtime, [one])[0] for one in free]
    held = SequenceSpec(
        prompt=runtime.prompts.text("Tom"), max_tokens=40, sampling=Sampling(), grammar=grammar
    )
    uid = runtime.insert(held, print)
    ends = []
    uids = [runtime.insert(one, print) for one in free]
    said = {uid: [] for uid in (uid, *uids)}
    while len(ends) < 3:
        for token in runtime.step():
            said[token.uid].append(token.token)
            if token.ended or token.cut:
                ends.append(token.uid)
    assert runtime.prompts.decode(said[uid]) == '"a long constant answer"'
    assert [said[one] for one in uids] == alone


def test_log_probabilities_are_of_the_model_whatever_sampling_does_to_them(runtime):
    plain = spec(runtime, 0, top_logprobs=3, max_tokens=1)
    bent = SequenceSpec(
        prompt=plain.prompt,
        max_tokens=1,
        sampling=Sampling(temperature=0, logit_bias=((7, 100.0),)),
        top_logprobs=3,
    )
    quiet = spec(runtime, 3, max_tokens=1)
    uids = [runtime.insert(one, print) for one in (plain, bent, quiet)]
    said = {}
    while len(said) < 3:
        said.update({token.uid: token for token in runtime.step()})
    first, second, third = (said[uid] for uid in uids)
    assert third.logprobs is None
    assert second.token == second.logprobs.token == 7
    assert first.logprobs.top == second.logprobs.top
    assert first.logprobs.top[0] == (first.token, first.logprobs.logprob)
    assert second.logprobs.logprob < first.logprobs.logprob
