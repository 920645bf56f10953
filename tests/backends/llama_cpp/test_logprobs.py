import numpy as np
import pytest

from backends.llama_cpp.logprobs import token_logprobs

LOGITS = np.array([1.0, 3.0, -1.0, 3.0, 0.5], dtype=np.float32)
EXPECTED = LOGITS - np.log(np.exp(LOGITS).sum())


@pytest.mark.parametrize("token", range(5))
def test_the_value_is_the_log_softmax(token):
    assert token_logprobs(LOGITS, token, 0).logprob == pytest.approx(EXPECTED[token], abs=1e-6)


def test_the_likeliest_come_first():
    found = token_logprobs(LOGITS, 2, 3)
    assert [token for token, _ in found.top] in ([1, 3, 0], [3, 1, 0])
    assert [value for _, value in found.top] == pytest.approx([EXPECTED[1]] * 2 + [EXPECTED[0]])


def test_there_are_no_more_than_tokens():
    assert len(token_logprobs(LOGITS, 2, 20).top) == 5
    assert token_logprobs(LOGITS, 2, 0).top == ()


def test_large_logits_do_not_overflow():
    assert token_logprobs(LOGITS * 1000, 1, 1).logprob == pytest.approx(np.log(0.5), abs=1e-5)
