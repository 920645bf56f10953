"""Put another model name into a request or an answer, and leave every other value as it is."""

from __future__ import annotations

import re

import msgspec

_decode_fields = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode_text = msgspec.json.Decoder(str).decode
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

    @property
    def longest(self) -> int:
        """Bytes of the longest that is looked for; 0 where nothing is."""
        return max((len(old) for old, _ in self._forms), default=0)

    def apply(self, block: bytes) -> bytes:
        """`block`, whole events, with the client's name for the model."""
        for old, new in self._forms:
            block = block.replace(old, new)
        return block


_NAMED = re.compile(rb'"model"\s*:\s*("(?:[^"\\]|\\.)*")')


class LongRename:
    """Renames the model in an answer that is too long to be held: its pieces end anywhere.

    The end of each, as long as what is looked for, is kept back for the next one.
    """

    __slots__ = ("_kept", "_longest", "_rename")

    def __init__(self, wanted: str, head: bytes, asked: str) -> None:
        """`head`: how the answer begins, some megabytes, fed later as all of it is. A name that
        does not stand there is the one that the engine was `asked` by.
        """
        named = _NAMED.search(head)
        name = _decode_name(named.group(1)) if named is not None else asked
        self._rename = StreamRename(wanted)
        self._rename.learn(name)
        self._longest = self._rename.longest
        self._kept = b""

    def feed(self, piece: bytes) -> bytes:
        """What can be told of the answer with `piece`; nothing where that is too short."""
        if not self._longest:
            return piece
        data = self._rename.apply(self._kept + piece)
        end = max(0, len(data) - self._longest + 1)
        self._kept = data[end:]
        return data[:end]

    def end(self) -> bytes:
        """What is still kept, once no more comes."""
        kept, self._kept = self._kept, b""
        return kept


def _decode_name(text: bytes) -> str:
    try:
        return _decode_text(text)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return ""  # it is no name that could be looked for
