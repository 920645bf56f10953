from __future__ import annotations

import json

import pytest

from gateway.wire.rename import LongRename, StreamRename, with_model, with_priority


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"old","x":1e400}',
        b'{"x": [1 , 2], "model" :\t"old"}',
        b'{"x":{"model":"old"},"model":"old"}',
        b'{"x":"\\"model\\":\\"old\\"","model":"old"}',
        b'{"x":"model","model":"old"}',
        b'{"x":["model"],"m\\u006fdel":"old"}',
        b'{"m\\u006fdel":"old","x":{"model":"old"}}',
        b'{"x":{"model":"old"},"\\u006Dodel":"old"}',
        b'{"x":{"model" : "old"}, "mod\\u0065\\u006C" : "old"}',
        b'{"x":[{"model":"old"}],"mo\\u0064el":"old","y":"\\u4e2d"}',
        b'{"x\\"model":"old","mode\\u006c":"old"}',
        b'{"x":"\\\\","model":"old"}',
        b'\r\n{\t"model"\n:\r"old"\n}\r\n',
    ],
)
def test_the_top_level_model_is_set_and_nothing_else(body):
    changed = json.loads(with_model(body, "old", 'ne"w'))
    assert changed == {**json.loads(body), "model": 'ne"w'}


def test_of_two_the_last_counts():
    assert json.loads(with_model(b'{"model":"a","model":"old"}', "old", "new")) == {"model": "new"}
    for body in (b'{"m\\u006fdel":"a","model":"old"}', b'{"model":"a","m\\u006fdel":"old"}'):
        assert json.loads(with_model(body, "old", "new")) == {"model": "new"}


def test_escapes_of_other_characters_keep_the_bytes_as_they_are():
    body = b'{"x":"\\u4e2d\\ud83d\\ude00" ,"model" :"old"}'
    assert with_model(body, "old", "new") == body.replace(b'"old"', b'"new"')


class TestStream:
    def test_until_a_name_is_known_nothing_is_touched(self):
        rename = StreamRename("mine")
        rename.learn("")
        assert rename.apply(b'data: {"model":""}\n\n') == b'data: {"model":""}\n\n'
        rename.learn("theirs")
        assert rename.apply(b'data: {"model":"theirs"}\n\n') == b'data: {"model":"mine"}\n\n'

    @pytest.mark.parametrize("name", ["a/b", "ünï", 'quo"te', "back\\slash"])
    def test_any_name_is_found_with_and_without_a_space(self, name):
        rename = StreamRename("mine")
        rename.learn(name)
        for separators in ((",", ":"), (", ", ": ")):
            event = json.dumps({"model": name}, separators=separators, ensure_ascii=False)
            assert json.loads(rename.apply(event.encode())) == {"model": "mine"}

    def test_text_that_speaks_of_it_is_left_alone(self):
        rename = StreamRename("mine")
        rename.learn("theirs")
        event = json.dumps({"content": '"model":"theirs"'}).encode()
        assert rename.apply(event) == event


def test_a_priority_takes_the_place_of_one_that_is_there():
    body = b'{"model":"a","x":1e400,"priority":9,"y":[1 , 2]}'
    assert with_priority(body, -1) == b'{"model":"a","x":1e400,"priority":-1,"y":[1 , 2]}'
    assert with_priority(b"{}", 1) == b'{"priority":1}'


class TestLong:
    BODY = (
        b'{"id":"x","model":"theirs","text":"\\"model\\":\\"theirs\\"","more":[{"model": "other"}]}'
    )
    RIGHT = BODY.replace(b'"model":"theirs"', b'"model":"the one I asked for"')

    @staticmethod
    def renamed(rename, *pieces):
        return b"".join([*map(rename.feed, pieces), rename.end()])

    @pytest.mark.parametrize("at", range(len(BODY) + 1))
    def test_pieces_may_end_anywhere(self, at):
        rename = LongRename("the one I asked for", self.BODY, "theirs")
        assert self.renamed(rename, self.BODY[:at], self.BODY[at:]) == self.RIGHT

    def test_even_behind_each_byte(self):
        rename = LongRename("the one I asked for", self.BODY, "theirs")
        assert self.renamed(rename, *(bytes([one]) for one in self.BODY)) == self.RIGHT

    def test_a_name_that_comes_late_is_the_one_that_was_asked_for(self):
        rename = LongRename("mine", b'{"data":[0.1', "theirs")
        pieces = (b'{"data":[0.1', b'],"model": "the', b'irs"}')
        assert self.renamed(rename, *pieces) == b'{"data":[0.1],"model": "mine"}'

    def test_where_it_is_the_same_nothing_is_kept_back(self):
        rename = LongRename("theirs", self.BODY, "theirs")
        assert rename.feed(self.BODY) == self.BODY
        assert rename.end() == b""

    @pytest.mark.parametrize("name", [b'"\\ud800"', b'"\xff"', b'"\x01"'])
    def test_what_is_no_name_is_left_alone(self, name):
        body = b'{"model":' + name + b"}"
        assert self.renamed(LongRename("mine", body, "theirs"), body) == body
