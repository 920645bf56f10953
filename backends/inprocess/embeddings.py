"""`/v1/embeddings`: what is asked, in what batches, and how it is answered. Pure."""

from __future__ import annotations

import base64
import struct
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec

from backends.inprocess.params import parse_body
from backends.inprocess.refusals import Code, check_range, refuse, shown, unsupported

MAX_INPUTS = 2048
"""OpenAI's bound on the texts of one request."""
MAX_BATCH_TOKENS = 2048
"""Of one batch, padding included: so long the sequences that generate have to wait."""
_encode = msgspec.json.Encoder().encode

Vector = Sequence[float]


class EmbeddingRequest(msgspec.Struct, kw_only=True):
    """The body of `/v1/embeddings`."""

    input: str | list[Any]
    model: str = ""
    encoding_format: str | None = None
    dimensions: int | None = None
    user: str | None = None

    @property
    def inputs(self) -> list[str | list[int]]:
        """One entry per vector, each text or token ids; checked."""
        given = self.input
        if isinstance(given, str) or (given and all(type(item) is int for item in given)):
            return [given]
        if not given:
            refuse("input", "must not be empty", code=Code.EMPTY_ARRAY)
        if len(given) > MAX_INPUTS:
            what = f"may hold at most {MAX_INPUTS} texts, not {len(given)}"
            refuse("input", what, code=Code.ARRAY_TOO_LONG)
        texts = all(isinstance(item, str) for item in given)
        if texts or all(_is_token_ids(item) for item in given):
            return list(given)
        return refuse(
            "input",
            "must be a text, a list of texts, token ids, or a list of those",
            code=Code.INVALID_TYPE,
        )

    def check(self) -> None:
        """Refuse what the types alone let through."""
        _ = self.inputs
        check_range("dimensions", self.dimensions, least=1)
        if self.encoding_format not in (None, "float", "base64"):
            what = f"must be 'float' or 'base64', not {shown(self.encoding_format)}"
            refuse("encoding_format", what)


def parse_embedding(body: bytes) -> EmbeddingRequest:
    """The body of a request; raises `RequestRefused`."""
    return parse_body(body, EmbeddingRequest)


def check_input(prompt: Sequence[int], *, context: int, vocabulary: int) -> None:
    """Refuse token ids that the model cannot read; raises `RequestRefused`."""
    if not prompt:
        refuse("input", "must not be empty", code=Code.EMPTY_STRING)
    if len(prompt) > context:
        refuse(
            "input",
            f"has {len(prompt)} tokens, but this model's context holds {context} tokens",
            code=Code.CONTEXT_EXCEEDED,
        )
    if min(prompt) < 0 or max(prompt) >= vocabulary:
        refuse("input", f"holds a token id that is not in 0 to {vocabulary - 1}")


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Places of the prompts, of `lengths` tokens each, that are to be computed together.

    Those of like length go together, so that little is padded. A prompt that is longer than a
    batch may be goes alone.
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lengths.__getitem__):
        if batch and lengths[place] * (len(batch) + 1) > MAX_BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


def shortened(vector: Vector, dimensions: int | None, sizes: Sequence[int] | None) -> Vector:
    """The first `dimensions` of `vector`, of length one again.

    `sizes` are those that the model was trained to be cut to (Kusupati et al. 2022, Matryoshka
    representations); empty where it may be any, None where it was not. Raises `RequestRefused`.
    """
    if dimensions is None or dimensions == len(vector):
        return vector
    if sizes is None:
        unsupported(
            "dimensions",
            f"this model's embeddings have {len(vector)} dimensions and cannot be shortened",
        )
    if dimensions > len(vector) or (sizes and dimensions not in sizes):
        known = ", ".join(map(str, sizes)) or f"1 to {len(vector)}"
        refuse("dimensions", f"must be one of {known}, not {dimensions}")
    cut = vector[:dimensions]
    norm = sum(value * value for value in cut) ** 0.5 or 1.0
    return [value / norm for value in cut]


def answer(vectors: Sequence[Vector], *, model: str, tokens: int, as_base64: bool) -> bytes:
    """The body of the reply; `tokens` is how many were read for it."""
    data = [
        {"object": "embedding", "index": index, "embedding": _packed(v) if as_base64 else v}
        for index, v in enumerate(vectors)
    ]
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return _encode({"object": "list", "data": data, "model": model, "usage": usage})


def _packed(vector: Vector) -> str:
    """Little-endian 32-bit floats, in base64."""
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()


def _is_token_ids(item: object) -> bool:
    return isinstance(item, list) and bool(item) and all(type(token) is int for token in item)
