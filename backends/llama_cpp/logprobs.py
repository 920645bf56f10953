"""Log-probabilities of tokens, from a model's own logits."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from backends.inprocess.logprobs import TokenLogprobs


def token_logprobs(logits: npt.NDArray[np.float32], token: int, top: int) -> TokenLogprobs:
    """Those of `token`, and of the `top` likeliest ones; `logits` is [vocabulary]."""
    highest = float(logits.max())
    total = highest + float(np.log(np.exp(logits - highest, dtype=np.float64).sum()))
    count = min(top, logits.size)
    if not count:
        return TokenLogprobs(token, float(logits[token]) - total)
    likeliest = np.argpartition(logits, -count)[-count:]
    likeliest = likeliest[np.argsort(-logits[likeliest], kind="stable")]
    alternatives = tuple((int(one), float(logits[one]) - total) for one in likeliest)
    return TokenLogprobs(token, float(logits[token]) - total, alternatives)
