import ctypes
import json
from pathlib import Path

import pytest
from llguidance import LLTokenizer

from backends.base import RequestRefused
from backends.inprocess.constraint import Constraint, Thinking, Value
from backends.inprocess.grammar import Grammars
from backends.inprocess.tool_call_formats import HERMES
from tests.support.constraints import one_value

MODEL = Path(__file__).parents[3] / "models" / "tiny-tale"
END = 2
TOKENIZER = LLTokenizer(
    (MODEL / "tokenizer.json").read_text(encoding="utf-8"), n_vocab=2048, eos_token=[END]
)
GRAMMARS = Grammars(TOKENIZER)
INTEGER = '{"type":"integer"}'
CITY = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/c"}},
        "required": ["city"],
        "$defs": {"c": {"enum": ["Paris"]}},
    }
)


def call(name, schema=CITY):
    return HERMES.shape.call(name, schema, "tools[0].function.parameters", lenient=False)


def accepts(constraint, text):
    """Whether `text`, and then the end, may be written."""
    faults = []
    matcher = GRAMMARS.compile(constraint).matcher(faults.append)
    for token in [*TOKENIZER.tokenize_str(text, parse_special=True), END]:
        if token not in allowed(matcher):
            return False
        matcher.consume(token)
    assert faults == []
    return True


def allowed(matcher):
    bits = bytearray(2048 // 8)

    memory = (ctypes.c_char * len(bits)).from_buffer(bits)
    assert matcher.allow(ctypes.addressof(memory), len(bits))
    return {token for token in range(2048) if bits[token // 8] >> token % 8 & 1}


PARIS = '<tool_call>\n{"name": "f", "arguments": {"city": "Paris"}}\n</tool_call>'
ROME = PARIS.replace("Paris", "Rome")


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        (one_value(INTEGER, "x"), ["7", "-12"], ["", "7.5", '"7"', "7 a", "{}"]),
        (
            one_value('{"type":"object"}', "x"),
            ["{}", '{"a": [1, 2]}', '{\n  "a": {\n    "b": 1\n  }\n}'],
            ["[]", '{ \n\n\n "a": 1}', '{"a": 1'],
        ),
        (
            one_value('{"oneOf":[{"const":"a"},{"type":"null"}]}', "x"),
            ['"a"', "null"],
            ['"b"'],
        ),
        (
            Constraint(calls=(call("f"), call("g")), mark="<tool_call>", separator="\n"),
            [PARIS, f"{PARIS}\n{PARIS}", PARIS.replace('"f"', '"g"')],
            ["", "Hi", ROME, PARIS + PARIS, PARIS.replace('"f"', '"h"'), f"Hi {PARIS}"],
        ),
        (
            Constraint(calls=(call("f"),), mark="<tool_call>", separator="\n", several=False),
            [PARIS],
            [f"{PARIS}\n{PARIS}"],
        ),
        (
            Constraint(calls=(call("f"),), mark="<tool_call>", text=True),
            ["", "Hi", PARIS, f"Hi {PARIS}", f"Hi {PARIS} and {PARIS} bye", "a < b {"],
            [ROME, f"{PARIS}{ROME}", "Hi <tool_call>"],
        ),
        (
            Constraint(calls=(call("f"),), mark="<tool_call>", text=True, several=False),
            ["", "Hi", f"Hi {PARIS}"],
            [f"{PARIS}{PARIS}", ROME],
        ),
        (
            Constraint(
                answer=Value(schema=INTEGER, param="x"), calls=(call("f"),), mark="<tool_call>"
            ),
            ["7", PARIS],
            ["Hi", f"7{PARIS}", ROME],
        ),
        (
            Constraint(text=True, mark="<tool_call>"),
            ["", "Hi", 'a < b {"name": "f"}\n</x>'],
            ["<tool_call>", f"Hi {PARIS}"],
        ),
        (
            Constraint(text=True, mark="@call "),
            ["", "Hi\n@calm @@call", "@@call? @ call "],
            ["@call ", "Hi @call f(7)", "\n@@call x"],
        ),
        (
            Constraint(
                text=True,
                mark="<tool_call>",
                thinking=Thinking("<think>", "</think>", opened=False),
            ),
            ["Hi", "<think>x</think>Hi"],
            ["<tool_call>", "<think>x</think><tool_call>"],
        ),
        (  # a mark that is no special token
            Constraint(
                calls=(Value(schema=INTEGER, param="x", begin="f(", end=")"),),
                mark="@call ",
                text=True,
            ),
            ["Hi", "Hi @call f(7) and @call f(8).", "@calm"],
            ["@call g(7)", "@call f(x)", "Hi @call "],
        ),
        (
            Constraint(
                answer=Value(schema=INTEGER, param="x"),
                thinking=Thinking("<think>", "</think>", opened=True),
            ),
            ["Well, 7?</think>\n\n7", "</think>7"],
            ["7", "Well</think>Hi"],
        ),
        (
            Constraint(
                answer=Value(schema=INTEGER, param="x"),
                thinking=Thinking("<think>", "</think>", opened=False),
            ),
            ["7", "<think>Well {</think>\n7"],
            ["Well", "<think>7", "<think>Well</think>Hi"],
        ),
    ],
)
def test_what_may_be_written(constraint, good, bad):
    assert [text for text in good if not accepts(constraint, text)] == []
    assert [text for text in bad if accepts(constraint, text)] == []


def test_the_tool_to_blame_is_named():
    broken = Value(schema='{"type":"nope"}', param="tools[1].function.parameters")
    with pytest.raises(RequestRefused) as caught:
        GRAMMARS.compile(Constraint(calls=(call("f"), broken), mark="<tool_call>"))
    assert caught.value.param == "tools[1].function.parameters"


def test_names_and_schemas_are_data_and_never_grammar():
    name = 'f" | /.*/ "'
    held = Constraint(calls=(call(name),), mark="<tool_call>")
    assert accepts(held, PARIS.replace('"f"', json.dumps(name)))
    assert not accepts(held, "anything")


def test_sequences_do_not_share_where_they_are():
    grammar = GRAMMARS.compile(one_value('{"const":"ab"}', "x"))
    first, second = grammar.matcher(print), grammar.matcher(print)
    before = allowed(second)
    first.consume(TOKENIZER.tokenize_str('"')[0])
    assert allowed(first) != before == allowed(second)


def test_a_fault_is_told_once_and_then_nothing_is_held():
    faults = []
    pattern = json.dumps({"type": "string", "pattern": "^(a?){5000}a{5000}$"})
    matcher = GRAMMARS.compile(one_value(pattern, "x")).matcher(faults.append)
    (quote,) = TOKENIZER.tokenize_str('"')
    matcher.consume(quote)
    bits = bytearray(256)

    memory = (ctypes.c_char * len(bits)).from_buffer(bits)
    assert [matcher.allow(ctypes.addressof(memory), 256) for _ in range(2)] == [False, False]
    (fault,) = faults
    assert "too many expressions" in str(fault)


def test_a_token_stands_for_its_bytes():
    assert GRAMMARS.piece(3) == b"<tool_call>"
    assert b"".join(map(GRAMMARS.piece, TOKENIZER.tokenize_str("ä😀 x"))) == "ä😀 x".encode()
