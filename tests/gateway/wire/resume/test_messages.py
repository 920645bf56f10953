from __future__ import annotations

import json
from random import Random

import pytest

from gateway.wire.resume.messages import MessagesTranscript
from gateway.wire.resume.transcript import DivergedError
from tests.support.upstream import event

THOUGHT = "A fox. I should say so."
TALE = "Once upon a time there was a fox."
ARGUMENTS = '{"city": "Rome"}'


def started(of):
    usage = {"input_tokens": 3, "output_tokens": 0}
    return event("message_start", message={"id": f"msg_{of}", "model": of, "usage": usage})


def block(index, kind, field, text, rng, **start):
    begun = event("content_block_start", index=index, content_block={"type": kind, **start})
    said = []
    while text:
        size = rng.randint(1, 6)
        delta = {"type": f"{field}_delta", field: text[:size]}
        said.append(event("content_block_delta", index=index, delta=delta))
        text = text[size:]
    return [begun, *said, event("content_block_stop", index=index)]


def answer(of, rng):
    return [
        started(of),
        event("ping"),
        *block(0, "thinking", "thinking", THOUGHT, rng),
        *block(1, "text", "text", TALE, rng),
        *block(2, "tool_use", "partial_json", ARGUMENTS, rng, id=f"toolu_{of}", name="weather"),
        event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9}),
        event("message_stop"),
    ]


def after(*events):
    transcript = MessagesTranscript()
    for one in events:
        transcript.add(one)
    return transcript


def replayed(transcript, events):
    splice = transcript.splice()
    return [out for one in events if (out := splice.feed(one))]


def values(events):
    return [json.loads(one.split(b"data: ")[1]) for one in events]


@pytest.mark.parametrize("seed", range(60))
def test_wherever_it_breaks_the_whole_is_the_same(seed):
    rng = Random(seed)
    first = answer("A", rng)
    had = first[: rng.randint(2, len(first))]
    out = values(had + replayed(after(*had), answer("B", rng)))
    kinds = [(one["type"], one.get("index")) for one in out]
    once = [kind for kind in kinds if kind[0] not in ("content_block_delta", "ping")]
    assert once == [
        ("message_start", None),
        *[(f"content_block_{what}", index) for index in range(3) for what in ("start", "stop")],
        ("message_delta", None),
        ("message_stop", None),
    ]
    said = {}
    for one in out:
        if one["type"] == "content_block_delta":
            field = one["delta"]["type"].removesuffix("_delta")
            said[field] = said.get(field, "") + one["delta"][field]
    assert said == {"thinking": THOUGHT, "text": TALE, "partial_json": ARGUMENTS}


def test_another_answer_is_none():
    rng = Random(1)
    had = [started("A"), *block(0, "text", "text", "Once upon", rng)]
    with pytest.raises(DivergedError):
        replayed(after(*had), [started("B"), *block(0, "text", "text", "Once umm", rng)])
    shorter = [started("B"), *block(0, "text", "text", "Once", rng)]
    shorter.append(event("message_delta", delta={"stop_reason": "end_turn"}))
    with pytest.raises(DivergedError):
        replayed(after(*had), shorter)


def test_plain_text_is_one_block_of_it():
    rng = Random(1)
    begun = [started("A"), *block(0, "text", "text", "Once", rng)]
    assert after(*begun).plain_text == "Once"
    more = event("content_block_start", index=1, content_block={"type": "tool_use"})
    assert after(*begun, more).plain_text is None
    assert after(started("A"), *block(0, "thinking", "thinking", "Hm", rng)).plain_text is None


def test_the_ending_is_what_is_missing():
    reason = event("message_delta", delta={"stop_reason": "end_turn"})
    assert after(started("A")).ending is None
    assert values([after(started("A"), reason).ending]) == [{"type": "message_stop"}]
    assert after(started("A"), reason, event("message_stop")).ending == b""


@pytest.mark.parametrize(
    "block_again", [{"type": "text", "text": ""}, {"type": "tool_use", "id": "x", "name": "time"}]
)
def test_a_block_of_another_kind_is_another_answer(block_again):
    tool = {"type": "tool_use", "id": "toolu_A", "name": "weather", "input": {}}
    had = event("content_block_start", index=0, content_block=tool)
    same = event("content_block_start", index=0, content_block={**tool, "id": "toolu_B"})
    assert replayed(after(had), [same]) == []
    again = event("content_block_start", index=0, content_block=block_again)
    with pytest.raises(DivergedError, match="another kind"):
        replayed(after(had), [again])


def test_nothing_comes_behind_the_end_of_a_block():
    rng = Random(1)
    had = [started("A"), *block(0, "text", "text", "Once upon", rng)]
    again = [started("B"), *block(0, "text", "text", "Once upon a time", rng)]
    with pytest.raises(DivergedError, match="at its end"):
        replayed(after(*had), again)


def test_a_citation_cannot_be_compared():
    cited = {"type": "citations_delta", "citation": {"cited_text": "a"}}
    citation = event("content_block_delta", index=0, delta=cited)
    assert after(citation).incomparable
    told = {"type": "text_delta", "text": "Once"}
    said = event("content_block_delta", index=0, delta=told)
    assert not after(said).incomparable
    (out,) = values(replayed(after(said), [said, citation]))
    assert out["delta"] == cited
    with pytest.raises(DivergedError):
        replayed(after(said), [citation, said])


def test_who_goes_on_from_the_text_does_not_think_behind_it():
    rng = Random(1)
    had = [started("A"), *block(0, "text", "text", "Once upon", rng)][:-1]
    thinks = [*had, *block(1, "thinking", "thinking", "Hm", rng)]
    assert replayed(after(*had), thinks)
    splice = after(*had).splice(continued=True)
    with pytest.raises(DivergedError, match="thinking behind"):
        [splice.feed(one) for one in thinks]
