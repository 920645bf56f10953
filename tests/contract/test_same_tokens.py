"""The same weights say the same on every engine: tokens, counts, ends, probabilities."""

from __future__ import annotations

import asyncio
import itertools
import math

import pytest

from backends.base import Endpoint
from backends.capabilities import Capability
from gateway.conform.agreement import PROMPTS, compare, say_all
from gateway.conform.probes import chat
from gateway.conform.promises import streamed, text_of, whole
from tests.support.engines import LLAMA_SERVER

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.slow]

LONG = "Tell me a long story about a fox and a bear."
SPAIN = "What is the capital of Spain?"


def same(by_engine):
    """The one value that all engines give."""
    values = list(by_engine.values())
    assert all(value == values[0] for value in values), by_engine
    return values[0]


async def each(targets, ask):
    """What `ask` gives for every engine, one after the other."""
    return {name: await ask(target) for name, target in targets.items()}


async def test_greedy_tokens(all_targets):
    said = await each(all_targets, say_all)
    for one, other in itertools.combinations(said, 2):
        found = compare(one, other, said)
        assert (found.prompts, found.share) == (len(PROMPTS), 1.0), found


async def test_text_completions(all_targets):
    fields = {"prompt": "The capital of", "temperature": 0, "max_tokens": 24}
    answers = await each(all_targets, lambda one: whole(one, Endpoint.COMPLETIONS, fields))
    assert same({name: text_of(said) for name, said in answers.items()})


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        (chat(SPAIN), "stop"),
        (chat(LONG, max_tokens=7), "length"),
        (chat(LONG, max_tokens=1), "length"),
        (chat(LONG, stop=["Lily"]), "stop"),
    ],
)
async def test_counts_and_reasons(all_targets, fields, reason):
    answers = await each(all_targets, lambda one: whole(one, Endpoint.CHAT, fields))
    assert (
        same({name: said["choices"][0]["finish_reason"] for name, said in answers.items()})
        == reason
    )
    counts = {
        name: (said["usage"]["prompt_tokens"], said["usage"]["completion_tokens"])
        for name, said in answers.items()
    }
    assert all(prompt > 0 < completion for prompt, completion in counts.values())
    same(counts)


async def test_several_choices_are_all_counted(all_targets):
    fields = chat(LONG, n=3, temperature=1, seed=1, max_tokens=5)

    async def count(one):
        said = await whole(one, Endpoint.CHAT, fields)
        told = await streamed(one, Endpoint.CHAT, fields, 3)
        return said["usage"]["completion_tokens"], told["usage"]["completion_tokens"]

    assert same(await each(all_targets, count)) == (15, 15)


async def test_a_prompt_of_token_ids_is_the_text_that_they_stand_for(all_targets):
    fields = {"prompt": [405, 370, 349], "temperature": 0, "max_tokens": 8}
    text = {**fields, "prompt": "The capital of"}
    by_ids = await each(all_targets, lambda one: whole(one, Endpoint.COMPLETIONS, fields))
    by_text = await each(all_targets, lambda one: whole(one, Endpoint.COMPLETIONS, text))
    ids = same({name: text_of(said) for name, said in by_ids.items()})
    assert ids == same({name: text_of(said) for name, said in by_text.items()})
    assert same({name: said["usage"]["prompt_tokens"] for name, said in by_ids.items()}) == 3


async def test_log_probabilities_are_close(all_targets):
    able = {
        name: one
        for name, one in all_targets.items()
        if Capability.LOGPROBS in one.backend.capabilities
    }
    fields = chat(LONG, max_tokens=12, logprobs=True, top_logprobs=3)
    answers = await each(able, lambda one: whole(one, Endpoint.CHAT, fields))
    listed = {name: said["choices"][0]["logprobs"]["content"] for name, said in answers.items()}
    first = next(iter(listed.values()))
    for name, tokens in listed.items():
        assert [one["token"] for one in tokens] == [one["token"] for one in first], name
        for token, other in zip(tokens, first, strict=True):
            assert math.isclose(token["logprob"], other["logprob"], abs_tol=2e-3), name
            assert bytes(token["bytes"]).decode(errors="replace") == token["token"]
            pairs = zip(token["top_logprobs"], other["top_logprobs"], strict=True)
            for mine, theirs in pairs:
                assert math.isclose(mine["logprob"], theirs["logprob"], abs_tol=2e-2), name


async def test_a_bias_forbids_and_forces(all_targets):
    """Token 1451 is ` Madrid`, 964 ` Nora`."""
    forbidden = chat(SPAIN, logit_bias={"1451": -100})
    forced = chat(SPAIN, logit_bias={"964": 100}, max_tokens=3)
    without = await each(all_targets, lambda one: whole(one, Endpoint.CHAT, forbidden))
    assert "Madrid" not in same({name: text_of(said) for name, said in without.items()})
    only = await each(all_targets, lambda one: whole(one, Endpoint.CHAT, forced))
    assert same({name: text_of(said).strip() for name, said in only.items()}) == "Nora Nora Nora"


async def test_an_answer_that_was_begun_is_gone_on_with(all_targets):
    whole_text = text_of(await whole(all_targets[LLAMA_SERVER], Endpoint.CHAT, chat(SPAIN)))
    begun = "The capital of Spain"
    assert whole_text.startswith(begun)
    said = [{"role": "user", "content": SPAIN}, {"role": "assistant", "content": begun}]
    fields = {
        **chat(SPAIN),
        "messages": said,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }
    answers = await each(all_targets, lambda one: whole(one, Endpoint.CHAT, fields))
    # llama-server repeats what was given to it.
    rest = {name: text_of(one).removeprefix(begun) for name, one in answers.items()}
    assert begun + same(rest) == whole_text


async def test_a_crowd_gets_what_one_alone_gets(all_targets):
    fields = chat(LONG)

    async def crowd(one):
        alone = text_of(await whole(one, Endpoint.CHAT, fields))
        answers = await asyncio.gather(*(whole(one, Endpoint.CHAT, fields) for _ in range(8)))
        assert {text_of(said) for said in answers} == {alone}
        return alone

    same(await each(all_targets, crowd))
