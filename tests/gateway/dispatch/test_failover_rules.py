from __future__ import annotations

import json

import pytest

from backends.base import Endpoint
from backends.capabilities import EVERYTHING, Capability
from gateway.dispatch.failover_rules import CannotGoOnError, Standing, Way, choose_way
from gateway.wire.resume.sampling import read_sampling


class Engine:
    def __init__(self, provider="vllm", without=()):
        self.provider = provider
        self.capabilities = EVERYTHING - set(without)


VLLM, LLAMA, UNKNOWN = Engine(), Engine("llama_server"), Engine("openai")
GREEDY = {"temperature": 0}
SEEDED = {"seed": 7}


def standing(fields=None, *, endpoint=Endpoint.CHAT, needs=(), **more):
    return Standing(
        **{
            "endpoint": endpoint,
            "needs": frozenset(needs),
            "sampling": read_sampling(json.dumps(fields or {}).encode()),
            "overfull": False,
            "only_text": True,
            "took": 1.0,
            "left": 100.0,
            **more,
        }
    )


def way(now, began=VLLM, next_one=VLLM):
    return choose_way(now, began, next_one)


@pytest.mark.parametrize("more", ["overfull", "incomparable"])
def test_what_is_not_known_is_not_gone_on_with(more):
    for now in (standing(GREEDY, **{more: True}), standing(**{more: True})):
        with pytest.raises(CannotGoOnError, match="has been said"):
            way(now)


class TestReplay:
    def test_of_a_greedy_answer_on_any_engine(self):
        for engine in (VLLM, LLAMA, UNKNOWN):
            assert way(standing(GREEDY), VLLM, engine) is Way.REPLAY

    def test_of_a_seeded_one_on_the_same_kind(self):
        assert way(standing(SEEDED)) is Way.REPLAY
        assert way(standing(SEEDED), VLLM, LLAMA) is Way.CONTINUE

    @pytest.mark.parametrize(
        "more",
        [
            {"only_text": False},
            {"needs": [Capability.JSON_SCHEMA]},
            {"needs": [Capability.PREFILL]},
            {"endpoint": Endpoint.RESPONSES, "needs": [Capability.LOGPROBS]},
        ],
    )
    def test_of_what_cannot_be_continued(self, more):
        assert way(standing(GREEDY, **more)) is Way.REPLAY
        with pytest.raises(CannotGoOnError):
            way(standing(**more))

    def test_elsewhere_of_what_another_one_said_otherwise_while_there_are_attempts(self):
        assert way(standing(GREEDY, doubted=True)) is Way.REPLAY
        assert way(standing(GREEDY, doubted=True, last=True)) is Way.CONTINUE
        assert way(standing(GREEDY, doubted=True, last=True, only_text=False)) is Way.REPLAY
        assert way(standing(GREEDY, last=True)) is Way.REPLAY

    def test_is_not_tried_twice_where_it_was_another_answer(self):
        assert way(standing(GREEDY, diverged=True)) is Way.CONTINUE
        with pytest.raises(CannotGoOnError, match="another one when"):
            way(standing(GREEDY, diverged=True, only_text=False))

    def test_is_not_tried_where_it_would_take_too_long(self):
        assert way(standing(GREEDY, took=51.0, left=50.0)) is Way.CONTINUE


class TestContinue:
    def test_of_a_sampled_answer(self):
        assert way(standing()) is Way.CONTINUE
        assert way(standing(endpoint=Endpoint.MESSAGES)) is Way.CONTINUE

    def test_of_a_chat_only_on_engines_that_are_known_to(self):
        with pytest.raises(CannotGoOnError, match="not known"):
            way(standing(), UNKNOWN, UNKNOWN)

    def test_of_a_completion_on_all(self):
        assert way(standing(endpoint=Endpoint.COMPLETIONS), UNKNOWN, UNKNOWN) is Way.CONTINUE

    @pytest.mark.parametrize(
        ("fields", "more", "why"),
        [
            ({}, {"only_text": False}, "more to it than text"),
            ({}, {"needs": [Capability.FORCED_TOOLS]}, "form"),
            ({"grammar": "root ::= x"}, {}, "form"),
            ({"echo": True}, {"endpoint": Endpoint.COMPLETIONS}, "begins"),
            ({}, {"needs": [Capability.PREFILL]}, "begins"),
            ({}, {"endpoint": Endpoint.RESPONSES, "needs": [Capability.LOGPROBS]}, "log-prob"),
        ],
    )
    def test_not_of(self, fields, more, why):
        with pytest.raises(CannotGoOnError, match=why):
            way(standing(fields, **more))

    def test_not_where_the_engine_says_that_it_cannot(self):
        with pytest.raises(CannotGoOnError, match="cannot go on"):
            way(standing(), VLLM, Engine(without=[Capability.PREFILL]))


def test_what_is_no_longer_kept_stays_broken():
    with pytest.raises(CannotGoOnError, match="than is kept"):
        way(standing(GREEDY, overfull=True))
