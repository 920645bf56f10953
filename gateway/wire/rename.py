"""Put another model name into a request or an answer, and leave every other value as it is."""

from __future__ import annotations

import re

import msgspec

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode = msgspec.json.encode


_KEY = b'"model"'
_ESCAPED_LETTER = b"\\u006"
"""How every escape for a letter of the key begins: they are U+0064, 65, 6C, 6D and 6F."""
_colon = re.compile(rb"[ \t\r\n]*:[ \t\r\n]*").match


def with_model(body: bytes, old: str, new: str) -> bytes:
    """`body`, a JSON object whose `model` is `old`, with `new` there; all else byte for byte.

    Where the key's bytes stand in the body once, and none of its letters is written as an escape
    anywhere, they are the key: inside a JSON string every quote is escaped. Then the value is cut
    out and the rest never looked at, at a tenth of the cost of reading and writing the object.

    Raises one of `MALFORMED` where the name of a field is no text: those who only read a few
    fields skip over it.
    """
    at = body.find(_KEY)
    if at >= 0 and body.find(_KEY, at + 1) < 0 and _ESCAPED_LETTER not in body:
        value = _encode(old)
        colon = _colon(body, at + len(_KEY))  # without one it is no key
        if colon is not None and body.startswith(value, colon.end()):
            start = colon.end()
            return b"%s%s%s" % (body[:start], _encode(new), body[start + len(value) :])
    return _rebuilt(body, new)


def with_priority(body: bytes, priority: int) -> bytes:
    """`body`, a JSON object, with this `priority`; all other fields byte for byte.

    Raises as `with_model` does.
    """
    fields = _decode_fields(body)
    fields["priority"] = msgspec.Raw(_encode(priority))
    return _encode(fields)


def _rebuilt(body: bytes, model: str) -> bytes:
    fields = _decode_fields(body)
    fields["model"] = msgspec.Raw(_encode(model))
    return _encode(fields)


class StreamRename:
    """Renames the model in the events of one stream.

    An engine writes its name for the model the same way in every event, so the exact bytes
    are taken from the first event that has it and only looked for afterwards. Inside a JSON
    string every quote is escaped: text that talks about `"model":` can never match.
    """

    __slots__ = ("_forms", "_wanted")

    def __init__(self, wanted: str) -> None:
        self._wanted = wanted
        self._forms: tuple[tuple[bytes, bytes], ...] = ()
        """What may stand in an event, and what shall, in both spellings."""

    def learn(self, engine_name: str) -> None:
        """Note what the engine calls the model, empty while that is not known yet."""
        if not engine_name or engine_name == self._wanted or self._forms:
            return
        old, new = _encode(engine_name), _encode(self._wanted)
        self._forms = tuple((key + old, key + new) for key in (b'"model":', b'"model": '))

    def apply(self, block: bytes) -> bytes:
        """`block`, whole events, with the client's name for the model."""
        for old, new in self._forms:
            block = block.replace(old, new)
        return block
