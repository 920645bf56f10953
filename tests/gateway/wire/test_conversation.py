from __future__ import annotations

import json

import msgspec

from backends.base import Endpoint
from gateway.wire.conversation import beginning
from gateway.wire.peek import Peek, peek

SYSTEM = {"role": "system", "content": "Be brief."}
HELLO = {"role": "user", "content": "Hello"}
ANSWER = {"role": "assistant", "content": "Hi"}
MORE = {"role": "user", "content": "More"}


def begun(*messages, **fields):
    body = json.dumps({"model": "m", "messages": messages, **fields}).encode()
    return beginning(peek(Endpoint.CHAT, body))


def test_each_turn_of_a_conversation_begins_the_same():
    assert begun(SYSTEM, HELLO) == begun(SYSTEM, HELLO, ANSWER, MORE)


def test_another_system_part_or_question_is_another_conversation():
    assert begun(SYSTEM, HELLO) != begun(HELLO)
    assert begun(SYSTEM, HELLO) != begun(SYSTEM, MORE)
    assert begun(HELLO, system="x") != begun(HELLO)


def test_a_long_one_is_cut_and_strange_turns_are_no_crash():
    assert len(begun({"role": "user", "content": "x" * 100_000})) == 16 << 10
    assert begun(5, "x", None)
    assert beginning(Peek(messages=msgspec.Raw(b'[{"role":"\xff"}]')))


def test_where_there_is_nothing_there_is_no_beginning():
    assert beginning(peek(Endpoint.RERANK, b'{"model":"m","query":"q"}')) is None
