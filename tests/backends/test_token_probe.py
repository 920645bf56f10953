"""A token is asked for, on a real socket, and what comes of it is told."""

from __future__ import annotations

import contextlib

import pytest

from backends.openai_http import OpenAIHttpBackend
from backends.options import LlamaServerOptions, OpenAIOptions
from backends.readiness import Condition
from backends.token_probe import TokenProbe
from tests.support.upstream import Silence, failing, reply, scripted

TOKEN = reply({"choices": [{"text": "!"}]})
DEAD = failing(500, "EngineDeadError")


@contextlib.asynccontextmanager
async def engine(*scripts, probe=None, kind=OpenAIOptions):
    async with scripted(*scripts, probe=probe) as upstream:
        options = kind(replicas=(upstream.url,))
        backend = (
            options.connect("e")
            if isinstance(options, LlamaServerOptions)
            else OpenAIHttpBackend("e", options)
        )
        try:
            yield upstream, backend
        finally:
            await backend.stop()


@pytest.mark.parametrize(
    ("scripts", "made", "paths"),
    [
        ([TOKEN], True, ["completions"]),
        ([failing(404), reply({"data": []})], True, ["completions", "embeddings"]),
        ([failing(501), failing(501)], True, ["completions", "embeddings"]),
        ([DEAD], False, ["completions"]),
        ([failing(404), DEAD], False, ["completions", "embeddings"]),
    ],
)
async def test_one_token_or_an_embedding_or_nothing_to_ask_for(scripts, made, paths):
    async with engine(*scripts) as (upstream, backend):
        token = await TokenProbe(backend, upstream.url, "m").make_token(2.0)
        assert token.made is made
        assert [seen.path for seen in upstream.seen] == [f"/v1/{path}" for path in paths]
        assert upstream.seen[0].json["model"] == "m"
        assert upstream.seen[0].json["max_tokens"] == 1


@pytest.mark.parametrize("status", [429, 503])
async def test_a_full_engine_is_no_dead_one(status):
    async with engine(failing(status)) as (upstream, backend):
        assert (await TokenProbe(backend, upstream.url, "m").make_token(2.0)).refused
        assert await backend.look_closely(upstream.url, "m", 0.1, busy=False) is None


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("busy", [False, True])
async def test_one_that_refuses_the_gateway_is_not_dead_but_misconfigured(status, busy):
    async with engine(failing(status), kind=LlamaServerOptions) as (upstream, backend):

        async def get(address, path):
            return 200, b"llamacpp:n_decode_total 7\n"

        backend.get = get
        said = await backend.look_closely(upstream.url, "m", 0.1, busy=busy)
        assert (said.ready, said.condition) == (False, Condition.MISCONFIGURED)
        assert f"wants an api_key (HTTP {status}): set `backends.e.api_key`" in said.reason


async def test_silence_is_told_and_its_request_given_up():
    async with engine((Silence(),)) as (upstream, backend):
        said = await backend.look_closely(upstream.url, "m", 0.1, busy=False)
        assert (said.ready, said.reason) == (False, "made no token within 0.1 s")


async def test_a_busy_one_that_tells_no_steps_is_not_judged_nor_asked():
    async with engine((Silence(),)) as (upstream, backend):
        assert await backend.look_closely(upstream.url, "m", 0.1, busy=True) is None
        assert upstream.seen == []


@pytest.mark.parametrize(("after", "moves"), [(b"8", True), (b"7", False)])
async def test_a_busy_one_that_does_is_judged_by_whether_it_gets_on(after, moves):
    """A long answer is before ours: it is alive as long as its own count grows."""
    counts = iter([b"7", b"7"])

    async with engine((Silence(),), kind=LlamaServerOptions) as (upstream, backend):

        async def get(address, path):
            assert (address, path) == (upstream.url, "/metrics")
            return 200, b"llamacpp:n_decode_total " + next(counts, after) + b"\n"

        backend.get = get
        said = await backend.look_closely(upstream.url, "m", 0.1, busy=True)
        assert said.ready is moves
