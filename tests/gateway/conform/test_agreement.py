from __future__ import annotations

import pytest

from gateway.conform.agreement import Agreement, compare, tokens_of


def said(*tokens, content=None, finish="stop"):
    content = "".join(tokens) if content is None else content
    logprobs = {"content": [{"token": token} for token in tokens]} if tokens else None
    choice = {"message": {"content": content}, "finish_reason": finish, "logprobs": logprobs}
    return {"choices": [choice]}


@pytest.mark.parametrize("mark", ["", "<|im_end|>"])
def test_a_listed_end_of_text_token_is_no_part_of_the_answer(mark):
    assert tokens_of(said("Mad", "rid", mark, content="Madrid")) == ["Mad", "rid"]
    assert tokens_of(said("Mad", "rid")) == ["Mad", "rid"]


def test_an_answer_cut_at_its_last_token_keeps_it():
    assert tokens_of(said("Mad", "\ufffd", content="Mad", finish="length")) == ["Mad", "\ufffd"]


def test_without_tokens_it_is_characters():
    assert tokens_of(said(content="Madrid")) == "Madrid"


def test_the_same_tokens():
    answers = (["Mad", "rid"], ["7"])
    found = compare("a", "b", {"a": answers, "b": answers})
    assert found == Agreement("a", "b", prompts=2, identical=2, share=1.0, unit="tokens")


def test_what_comes_after_the_first_difference_does_not_count():
    found = compare("a", "b", {"a": [["x", "y", "z", "z"]], "b": [["x", "o", "z"]]})
    assert (found.identical, found.share) == (0, 0.25)


def test_tokens_and_characters_are_compared_as_characters():
    found = compare("a", "b", {"a": [["Mad", "rid"]], "b": ["Madrid"]})
    assert (found.identical, found.share, found.unit) == (1, 1.0, "characters")


def test_what_one_has_not_answered_is_left_out():
    found = compare("a", "b", {"a": [None, ["x"]], "b": [["y"], ["x"]]})
    assert (found.prompts, found.identical, found.share) == (1, 1, 1.0)


def test_where_nothing_was_answered_nothing_agrees():
    found = compare("a", "b", {"a": [None], "b": [["y"]]})
    assert (found.prompts, found.share) == (0, 0.0)


def test_empty_answers_agree():
    assert compare("a", "b", {"a": [[]], "b": [[]]}).share == 1.0
