from __future__ import annotations

import json

import pytest

from backends.base import Adapter, Endpoint, Request, RequestRefused
from backends.llama_server.lora import File, arguments, asking_for, ids_of, read_files
from backends.options import Launch, LlamaServerOptions

A, B = Adapter("a", "/models/a/adapter.gguf"), Adapter("b", "/models/b/adapter.gguf")


def asked(endpoint=Endpoint.CHAT, body=b'{"model":"m"}'):
    return Request(endpoint=endpoint, body=body)


def test_an_adapter_is_found_by_its_path():
    files = [File(0, B.path), File(1, A.path)]
    assert ids_of([A, B], files) == {A: 1, B: 0}


def test_a_server_may_have_been_given_a_relative_path():
    assert ids_of([A, B], [File(3, "b/adapter.gguf")]) == {B: 3}


@pytest.mark.parametrize("path", ["adapter.gguf", "c/adapter.gguf", "/other/adapter.gguf"])
def test_nothing_is_guessed(path):
    assert ids_of([A, B], [File(0, path)]) == {}


def test_a_file_is_one_adapters():
    short = [File(0, "a/adapter.gguf"), File(1, A.path)]
    assert ids_of([A], short) == {A: 1}
    assert ids_of([A], [File(0, "adapter.gguf"), File(1, "a/adapter.gguf")]) == {}


@pytest.mark.parametrize(
    ("lora", "field"), [(None, [{"id": 0, "scale": 0}]), (2, [{"id": 2, "scale": 1}])]
)
def test_each_request_says_which_one_it_wants_whatever_the_client_says(lora, field):
    request = asking_for(asked(body=b'{"lora":[{"id":7,"scale":1}],"x":1.00}'), lora, cached=True)
    assert json.loads(request.body) == {"lora": field, "x": 1.0}
    assert b'"x":1.00' in request.body


def test_what_may_have_been_cached_with_another_adapter_is_not_used():
    body = asking_for(asked(body=b'{"cache_prompt":true}'), 0, cached=False).body
    assert json.loads(body)["cache_prompt"] is False


@pytest.mark.parametrize("endpoint", [Endpoint.EMBEDDINGS, Endpoint.RERANK])
def test_an_endpoint_without_adapters_refuses_one(endpoint):
    with pytest.raises(RequestRefused, match=f"/v1/{endpoint}") as caught:
        asking_for(asked(endpoint), 0, cached=True)
    assert caught.value.status == 501
    assert asking_for(asked(endpoint), None, cached=True).body == b'{"model":"m"}'


@pytest.mark.parametrize("body", [b"{", b"[]", b"\xff"])
def test_what_cannot_be_read_is_left_to_the_engine(body):
    assert asking_for(asked(body=body), 0, cached=False).body == body


@pytest.mark.parametrize("body", [b"{}", b"[{}]", b'[{"id":"x","path":"p"}]', b"\xff"])
def test_what_is_no_list_of_adapters_is_said(body):
    with pytest.raises(ValueError, match="list of adapters"):
        read_files(body)


def test_a_server_is_started_with_adapters_that_nobody_gets_unasked():
    assert arguments([B, A]) == ("--lora-scaled", f"{A.path}:0,{B.path}:0", "--cache-ram", "0")
    assert arguments([A], ["--cache-ram", "100"]) == ("--lora-scaled", f"{A.path}:0")
    assert arguments([]) == ()


@pytest.mark.parametrize("path", ["/a,b.gguf", "C:/a.gguf"])
def test_a_path_that_the_server_would_take_apart_is_refused(path):
    with pytest.raises(ValueError, match="takes no"):
        arguments([Adapter("a", path)])


def test_with_adapters_messages_are_asked_for_as_chats():
    options = LlamaServerOptions(replicas=("http://h",))
    with_some = LlamaServerOptions(replicas=("http://h",), adapters={"a": A.path})
    assert Endpoint.MESSAGES in options.open("e").endpoints
    assert Endpoint.MESSAGES not in with_some.open("e").endpoints


def test_what_may_change_while_the_engine_runs():
    def options(launch=None, **adapters):
        return LlamaServerOptions(replicas=("http://h",), launch=launch, adapters=adapters)

    assert options(a="/a").engine() == options(a="/b", c="/c").engine()
    assert options(a="/a").engine() != options().engine()
    launch = Launch(model="/m.gguf")
    assert options(launch, a="/a").engine() != options(launch, a="/b").engine()
