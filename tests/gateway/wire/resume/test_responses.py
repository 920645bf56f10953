from __future__ import annotations

import json
from random import Random

import pytest

from gateway.wire.resume.responses import ResponsesTranscript
from gateway.wire.resume.transcript import DivergedError

TALE = "Once upon a time there was a fox."
ARGUMENTS = '{"city": "Rome"}'


class Voice:
    """Writes the events of one try; `terse` as llama-server does, without places and numbers."""

    def __init__(self, of, rng, *, terse=False):
        self.of, self.rng, self.terse = of, rng, terse
        self.number = 0
        self.events = []

    def say(self, kind, **fields):
        if not self.terse:
            fields["sequence_number"] = self.number
        else:
            fields = {name: value for name, value in fields.items() if not name.endswith("_index")}
        self.number += 1
        body = {"type": kind, **fields}
        self.events.append(f"event: {kind}\ndata: {json.dumps(body)}\n\n".encode())

    def deltas(self, kind, text, **where):
        while text:
            size = self.rng.randint(1, 6)
            self.say(kind, delta=text[:size], **where)
            text = text[size:]

    def answer(self, tool="weather"):
        response = {"id": f"resp_{self.of}", "created_at": ord(self.of), "output": []}
        self.say("response.created", response=response)
        self.say("response.in_progress", response=response)
        where = {"item_id": f"msg_{self.of}", "output_index": 0}
        message = {"id": f"msg_{self.of}", "type": "message"}
        self.say("response.output_item.added", output_index=0, item=message)
        part = {**where, "content_index": 0}
        self.say("response.content_part.added", **part)
        self.deltas("response.output_text.delta", TALE, **part)
        self.say("response.output_text.done", text=TALE, **part)
        self.say("response.content_part.done", **part)
        self.say("response.output_item.done", output_index=0, item=message)
        call = {"id": f"fc_{self.of}", "call_id": f"call_{self.of}"}
        call |= {"type": "function_call", "name": tool}
        where = {"item_id": f"fc_{self.of}", "output_index": 1}
        self.say("response.output_item.added", output_index=1, item=call)
        self.deltas("response.function_call_arguments.delta", ARGUMENTS, **where)
        self.say("response.function_call_arguments.done", arguments=ARGUMENTS, **where)
        self.say("response.output_item.done", output_index=1, item=call)
        whole = {**response, "output": [message, call], "usage": {"output_tokens": 9}}
        self.say("response.completed", response=whole)
        return self.events


def after(*events):
    transcript = ResponsesTranscript()
    for one in events:
        transcript.add(one)
    return transcript


def replayed(transcript, events):
    splice = transcript.splice()
    return [out for one in events if (out := splice.feed(one))]


def values(events):
    return [json.loads(one.split(b"data: ")[1]) for one in events]


@pytest.mark.parametrize("terse", [False, True])
@pytest.mark.parametrize("seed", range(40))
def test_wherever_it_breaks_the_whole_is_the_same(seed, terse):
    rng = Random(seed)
    first = Voice("A", rng, terse=terse).answer()
    had = first[: rng.randint(2, len(first) - 1)]
    again = Voice("B", rng, terse=terse).answer()
    out = values(had + replayed(after(*had), again))
    undisturbed = [one["type"] for one in values(first) if "delta" not in one]
    assert [one["type"] for one in out if "delta" not in one] == undisturbed
    said = {}
    for one in out:
        if "delta" in one:
            said[one["type"]] = said.get(one["type"], "") + one["delta"]
    assert list(said.values()) == [TALE, ARGUMENTS]
    if not terse:
        assert [one["sequence_number"] for one in out] == list(range(len(out)))
    response = out[-1]["response"]
    assert (response["id"], response["created_at"]) == ("resp_A", ord("A"))
    added = [one["item"] for one in out if one["type"] == "response.output_item.added"]
    assert [item["id"] for item in response["output"]] == [item["id"] for item in added]
    assert response["output"][1]["call_id"] == added[1]["call_id"]
    for one in out:
        if "item_id" in one:
            assert one["item_id"] in [item["id"] for item in added]


def test_it_may_break_twice():
    rng = Random(3)
    out = Voice("A", rng).answer()[:8]
    out += replayed(after(*out), Voice("B", rng).answer())[:6]
    out += replayed(after(*out), Voice("C", rng).answer())
    told = values(out)
    assert [one["sequence_number"] for one in told] == list(range(len(told)))
    assert "".join(one["delta"] for one in told if "output_text.delta" in one["type"]) == TALE
    assert told[-1]["response"]["id"] == "resp_A"


def test_a_call_of_another_tool_is_another_answer():
    rng = Random(1)
    had = [one for one in Voice("A", rng).answer() if b"arguments" not in one][:-2]
    with pytest.raises(DivergedError, match="another kind"):
        replayed(after(*had), Voice("B", rng).answer("time"))


def test_another_text_is_another_answer():
    rng = Random(1)
    had = Voice("A", rng).answer()[:9]
    again = [one.replace(b"O", b"U") for one in Voice("B", rng).answer()]
    with pytest.raises(DivergedError):
        replayed(after(*had), again)


def test_plain_text_is_that_of_one_message():
    rng = Random(1)
    events = Voice("A", rng).answer()
    call = next(at for at, one in enumerate(events) if b"function_call" in one)
    assert after(*events[:call]).plain_text == TALE
    assert after(*events[: call + 1]).plain_text is None


def test_the_ending_is_known_at_the_end():
    events = Voice("A", Random(1)).answer()
    assert after(*events[:-1]).ending is None
    assert after(*events).ending == b""


def part_of(kind, **fields):
    where = {"item_id": "msg_A", "output_index": 0, "content_index": 0}
    return f"data: {json.dumps({'type': f'response.{kind}', **where, **fields})}\n\n".encode()


def test_nothing_comes_behind_the_end_of_a_text():
    had = [part_of("output_text.delta", delta="Once"), part_of("output_text.done", text="Once")]
    again = [part_of("output_text.delta", delta="Once upon")]
    with pytest.raises(DivergedError, match="at its end"):
        replayed(after(*had), again)


def test_an_event_that_says_nothing_is_no_other_answer():
    had = part_of("output_text.delta", delta="Once")
    again = [part_of("output_text.delta", delta=said) for said in ("", "Once upon")]
    assert [one["delta"] for one in values(replayed(after(had), again))] == [" upon"]


def test_log_probabilities_stay_with_their_tokens():
    def told(*words):
        entries = [{"token": word, "logprob": -0.1} for word in words]
        return part_of("output_text.delta", delta="".join(words), logprobs=entries)

    (one,) = values(replayed(after(told("a")), [told("a", " b")]))
    assert [entry["token"] for entry in one["logprobs"]] == [" b"]


def test_a_text_that_reads_like_an_id_stays_as_it_is():
    def begun(of):
        item = {"id": of, "type": "message"}
        return (
            f"data: {json.dumps({'type': 'response.output_item.added', 'item': item})}\n\n".encode()
        )

    said = part_of("output_text.delta", delta="fox").replace(b"msg_A", b"fox")
    (one,) = values(replayed(after(begun("A")), [begun("fox"), said]))
    assert (one["delta"], one["item_id"]) == ("fox", "A")


def test_a_delta_that_is_no_text_cannot_be_compared():
    assert after(part_of("sound.delta", delta={"data": "aGk="})).incomparable
    assert not after(part_of("output_text.delta", delta="a")).incomparable


def test_who_goes_on_from_the_text_does_not_think_behind_it():
    item = {"id": "rs_B", "type": "reasoning"}
    thinks = (
        f"data: {json.dumps({'type': 'response.output_item.added', 'item': item})}\n\n".encode()
    )
    transcript = after(part_of("output_text.delta", delta="Once"))
    assert transcript.splice().feed(part_of("output_text.delta", delta="Once")) == b""
    splice = transcript.splice(continued=True)
    assert splice.feed(part_of("output_text.delta", delta="Once")) == b""
    with pytest.raises(DivergedError, match="thinking behind"):
        splice.feed(thinks)
