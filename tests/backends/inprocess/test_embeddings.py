import base64
import json
import struct

import pytest
from openai.types import CreateEmbeddingResponse

from backends.base import RequestRefused
from backends.inprocess.embeddings import (
    MAX_BATCH_TOKENS,
    MAX_INPUTS,
    answer,
    batches,
    check_input,
    parse_embedding,
    shortened,
)


def parse(**body):
    return parse_embedding(json.dumps({"model": "m", **body}).encode())


def refused(function, *args, **kwargs):
    with pytest.raises(RequestRefused) as caught:
        function(*args, **kwargs)
    assert caught.value.status == 400
    return caught.value


class TestInput:
    @pytest.mark.parametrize(
        ("given", "inputs"),
        [
            ("a", ["a"]),
            (["a", "b"], ["a", "b"]),
            ([1, 2], [[1, 2]]),
            ([[1], [2, 3]], [[1], [2, 3]]),
        ],
    )
    def test_what_it_may_be(self, given, inputs):
        assert parse(input=given).inputs == inputs

    @pytest.mark.parametrize(
        "given", [[], ["a", 1], [[]], [[1], "a"], [True], [1.5], [[True]], [["a"]], {}, None]
    )
    def test_what_it_may_not_be(self, given):
        assert refused(parse, input=given).param == "input"

    def test_too_many(self):
        assert str(MAX_INPUTS) in refused(parse, input=["a"] * (MAX_INPUTS + 1)).message

    def test_it_is_needed(self):
        assert refused(parse).param == "input"

    @pytest.mark.parametrize(
        ("field", "value"),
        [("dimensions", 0), ("dimensions", "x"), ("encoding_format", "int8"), ("user", 1)],
    )
    def test_other_fields(self, field, value):
        assert refused(parse, input="a", **{field: value}).param == field


class TestCheck:
    def test_an_input_longer_than_the_context_says_both_numbers(self):
        check_input([5] * 64, context=64, vocabulary=10)
        error = refused(check_input, [5] * 65, context=64, vocabulary=10)
        assert error.code == "context_length_exceeded"
        assert "64" in error.message
        assert "65" in error.message

    @pytest.mark.parametrize("prompt", [[], [10], [-1]])
    def test_no_tokens_and_unknown_ones(self, prompt):
        assert refused(check_input, prompt, context=64, vocabulary=10).param == "input"


class TestBatches:
    def test_every_prompt_is_in_one_batch(self):
        lengths = [7, 900, 1, 4000, 7, 1500, 2]
        found = list(batches(lengths))
        assert sorted(place for batch in found for place in batch) == list(range(7))

    def test_a_batch_is_bounded_with_its_padding(self):
        lengths = [size % 700 + 1 for size in range(0, 90_000, 37)]
        for batch in batches(lengths):
            assert len(batch) * max(lengths[place] for place in batch) <= MAX_BATCH_TOKENS

    def test_a_long_prompt_goes_alone(self):
        assert list(batches([3 * MAX_BATCH_TOKENS, 1, 1])) == [[1, 2], [0]]

    def test_nothing(self):
        assert list(batches([])) == []


class TestDimensions:
    VECTOR = (0.6, 0.0, 0.8)

    @pytest.mark.parametrize("dimensions", [None, 3])
    @pytest.mark.parametrize("sizes", [None, (), (2,)])
    def test_all_of_them(self, dimensions, sizes):
        assert shortened(self.VECTOR, dimensions, sizes) == self.VECTOR

    @pytest.mark.parametrize("sizes", [(), (2,)])
    def test_a_shorter_vector_has_length_one(self, sizes):
        assert shortened(self.VECTOR, 2, sizes) == [1.0, 0.0]

    @pytest.mark.parametrize(("dimensions", "sizes"), [(2, None), (4, ()), (1, (2,)), (4, None)])
    def test_what_the_model_was_not_trained_for(self, dimensions, sizes):
        assert refused(shortened, self.VECTOR, dimensions, sizes).param == "dimensions"


class TestAnswer:
    @pytest.mark.parametrize("as_base64", [False, True])
    def test_it_is_what_the_sdk_reads(self, as_base64):
        body = answer([[0.5, -0.25], [1.0, 0.0]], model="m", tokens=7, as_base64=as_base64)
        if as_base64:
            items = json.loads(body)["data"]
            raw = base64.b64decode(items[0]["embedding"])
            assert struct.unpack("<2f", raw) == (0.5, -0.25)
            return
        read = CreateEmbeddingResponse.model_validate_json(body, strict=True)
        assert [item.index for item in read.data] == [0, 1]
        assert read.data[0].embedding == [0.5, -0.25]
        assert (read.usage.prompt_tokens, read.usage.total_tokens) == (7, 7)
