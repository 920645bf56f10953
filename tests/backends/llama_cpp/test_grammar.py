import json
import random

import jsonschema
import numpy as np
import pytest

from backends.base import RequestRefused
from backends.inprocess.constraint import Constraint, Value
from tests.support.constraints import one_value

PARAM = "response_format.json_schema.schema"
PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string"}, "age": {"type": "integer"}},
    "required": ["name", "age"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module")
def grammars(model, vocabulary):
    from backends.llama_cpp.grammar import grammars

    return grammars(model, vocabulary)


@pytest.fixture
def walk(grammars, vocabulary):
    """Random tokens among those that are allowed, until the grammar ends or `limit` is reached."""
    from backends.llama_cpp.grammar import forbid

    def walk(constraint, seed, limit=300):
        faults = []
        matcher = grammars.compile(constraint).matcher(faults.append)
        choice, tokens = random.Random(seed), []
        while len(tokens) < limit:
            logits = np.zeros(vocabulary.size, dtype=np.float32)
            forbid(logits, matcher)
            allowed = np.flatnonzero(np.isfinite(logits)).tolist()
            assert allowed
            token = choice.choice(allowed)
            matcher.consume(token)
            if token in vocabulary.ends:
                break
            tokens.append(token)
        assert not faults
        return vocabulary.decode(tokens, special=True), len(tokens) < limit

    return walk


def test_whatever_is_chosen_is_valid(walk):
    schema = {**PERSON, "properties": {
        "name": {"enum": ["a\\b", "c\nd", "é"]}, "age": {"type": "integer", "maximum": 120},
    }}  # fmt: skip
    ended = 0
    for seed in range(60):
        text, over = walk(one_value(json.dumps(schema), PARAM), seed)
        if over:
            ended += 1
            jsonschema.validate(json.loads(text), schema)
    assert ended > 10


def test_marks_of_calls_are_special_tokens(walk, vocabulary):
    call = Value(
        schema='{"type": "object", "properties": {}, "additionalProperties": false}',
        param="tools",
        begin='<tool_call>\n{"name": "f", "arguments": ',
        end="}\n</tool_call>",
    )
    constraint = Constraint(calls=(call,), separator="\n", several=False)
    texts = [walk(constraint, seed) for seed in range(5)]
    assert all(over and text.startswith("<tool_call>") for text, over in texts)
    assert all(text.endswith("</tool_call>") for text, _ in texts)


@pytest.mark.parametrize(
    "schema",
    ['{"type": "strnig"}', '{"$ref": "#/nowhere"}', '{"type": "string", "pattern": "("}'],
)
def test_what_cannot_be_compiled_names_its_field(grammars, schema):
    with pytest.raises(RequestRefused) as caught:
        grammars.compile(one_value(schema, PARAM))
    assert (caught.value.status, caught.value.param) == (400, PARAM)


def test_a_matcher_that_fails_forbids_nothing_and_says_so(vocabulary):
    from backends.llama_cpp.grammar import forbid

    class Failing:
        def allow(self, address, size):
            return False

    logits = np.zeros(vocabulary.size, dtype=np.float32)
    forbid(logits, Failing())
    assert not logits.any()
