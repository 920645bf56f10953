from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from backends.options import Options
from gateway.config import Config
from gateway.control.engines import Engines, Opened, Plan
from tests.support.inprocess import ask, post, routing, serving
from tests.support.upstream import CHAT, STORY, Pause, Silence, scripted, stream


def write(gateway, document):
    gateway.path.write_text(json.dumps(document))


async def reload(gateway):
    return await gateway.gateway._reloader.reload()


async def test_a_new_model_is_answered(tmp_path):
    async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
        document = routing(engine)
        document["models"]["new"] = {"backend": "engine"}
        write(gateway, document)
        assert await reload(gateway)
        assert (await gateway.chat(model="new")).status_code == 200


async def test_a_file_that_is_wrong_changes_nothing_and_says_why(tmp_path, caplog):
    async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
        write(gateway, {**routing(engine), "modles": {}})
        assert not await reload(gateway)
        assert "models" in caplog.text
        assert (await gateway.chat()).status_code == 200
        told = "gateway_config_last_reload_successful"
        assert f"{told} 0.0" in (await gateway.client.get("/metrics")).text
        write(gateway, routing(engine))
        assert await reload(gateway)
        assert f"{told} 1.0" in (await gateway.client.get("/metrics")).text


@pytest.mark.parametrize("url", ["{}/v1", "{}/", "{}/v1/"])
async def test_a_replica_that_is_spelled_differently_is_the_same_one(tmp_path, url):
    async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
        document = routing(engine)
        document["backends"]["engine"]["replicas"] = [url.format(engine.url)]
        write(gateway, document)
        assert await reload(gateway)
        answer = await gateway.chat()
        ready = await gateway.client.get("/ready")
    assert answer.status_code == 200
    assert ready.status_code == 200


async def test_a_replica_keeps_what_is_known_of_it(tmp_path):
    async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
        (before,) = gateway.gateway._state.snapshot.replicas
        document = routing(engine)
        document["backends"]["engine"]["api_key"] = "sk-engine-new"
        write(gateway, document)
        assert await reload(gateway)
        (after,) = gateway.gateway._state.snapshot.replicas
        await gateway.chat()
    assert after is before
    assert engine.seen[0].header("authorization") == "Bearer sk-engine-new"


@pytest.mark.slow
@pytest.mark.parametrize("reloads", [1, 2, 3])
async def test_a_stream_outlives_the_backend_that_is_taken_away(tmp_path, reloads):
    slow = stream(*STORY[:2], Pause(0.3), *STORY[2:])
    async with (
        scripted(slow) as old,
        scripted(CHAT) as new,
        serving(tmp_path, routing(old)) as gateway,
    ):
        answer = asyncio.create_task(gateway.chat(stream=True))
        await old.asked()
        for number in range(1, reloads):
            write(gateway, routing(old, model={"aliases": [f"name-{number}"]}))
            assert await reload(gateway)
        document = routing(new)
        document["backends"]["other"] = document["backends"].pop("engine")
        document["models"]["tale"]["backend"] = "other"
        write(gateway, document)
        assert await reload(gateway)
        assert (await gateway.chat()).headers["x-gateway-replica"] == f"other@{new.id}"
        assert (await answer).text.endswith("data: [DONE]\n\n")


async def test_once_the_last_user_is_gone_the_backend_is_stopped(tmp_path):
    async with (
        scripted((Silence(),)) as old,
        scripted(CHAT) as new,
        serving(tmp_path, routing(old)) as gateway,
    ):
        client = await gateway.connect()
        await client.write(post(json.dumps(ask(stream=True)).encode()))
        await old.asked()
        (backend,) = {one.backend for one in gateway.gateway._state.snapshot.replicas}
        document = routing(new)
        document["backends"]["other"] = document["backends"].pop("engine")
        document["models"]["tale"]["backend"] = "other"
        write(gateway, document)
        assert await reload(gateway)
        await asyncio.sleep(0.05)
        assert backend._transport.connections == 1
        client.reset()
        async with asyncio.timeout(2):
            while gateway.gateway._reloader._retiring:
                await asyncio.sleep(0.01)


async def test_a_body_that_is_still_coming_keeps_nothing_alive_and_goes_where_the_file_says_now(
    tmp_path,
):
    body = json.dumps(ask()).encode()
    async with (
        scripted(CHAT) as old,
        scripted(CHAT) as new,
        serving(tmp_path, routing(old)) as gateway,
    ):
        client = await gateway.connect()
        await client.write(post(body)[:-5])
        await asyncio.sleep(0.05)
        document = routing(new)
        document["backends"]["other"] = document["backends"].pop("engine")
        document["models"]["tale"]["backend"] = "other"
        write(gateway, document)
        assert await reload(gateway)
        async with asyncio.timeout(2):
            while gateway.gateway._reloader._retiring:
                await asyncio.sleep(0.01)
        await client.write(body[-5:])
        assert (await client.response())[0] == 200
    assert (len(old.seen), len(new.seen)) == (0, 1)


BAD_ADDRESSES = {
    "one replica twice": ["http://127.0.0.1:1", "http://127.0.0.1:1/v1"],
    "a password in a URL": ["http://user:hunter2@127.0.0.1:1"],
    "a query": ["http://127.0.0.1:1?x=1"],
    "a port that is none": ["http://127.0.0.1:port"],
    "a port too high": ["http://127.0.0.1:99999"],
}


@pytest.mark.parametrize("replicas", BAD_ADDRESSES.values(), ids=BAD_ADDRESSES)
async def test_an_address_that_cannot_be_does_not_end_the_gateway(tmp_path, caplog, replicas):
    async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
        document = routing(engine)
        document["backends"]["engine"]["replicas"] = replicas
        write(gateway, document)
        assert not await reload(gateway)
        assert (await gateway.chat()).status_code == 200
    assert "hunter2" not in caplog.text


async def test_a_bug_in_a_reload_does_not_end_the_gateway(tmp_path, monkeypatch, caplog):
    def broken(*_):
        raise PermissionError("nobody thought of this one")

    async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
        monkeypatch.setattr("gateway.control.reload.load", broken)
        gateway.gateway._reloader.request()
        while "nobody thought of this one" not in caplog.text:
            await asyncio.sleep(0.01)
        assert not gateway.gateway._reloader.last_succeeded
        assert (await gateway.chat()).status_code == 200


class Loading:
    """A backend whose start takes a few turns of the loop; tells how many start at a time."""

    def __init__(self, starting, *, loads_here):
        self.loads_here = loads_here
        self._starting = starting
        self.most = 0

    async def start(self):
        self._starting.append(self)
        for _ in range(5):
            self.most = max(self.most, sum(one.loads_here for one in self._starting))
            await asyncio.sleep(0)
        self._starting.remove(self)

    async def stop(self):
        pass


async def test_models_are_loaded_into_this_process_one_by_one_beside_other_starts():
    starting = []
    backends = [Loading(starting, loads_here=here) for here in (True, False, True, True)]
    fresh = tuple(Opened(str(at), Options(), one) for at, one in enumerate(backends))
    plan = Plan(config=Config(backends={}, models={}), opened={}, fresh=fresh, retired=())
    await Engines().start(plan)
    assert [one.most for one in backends] == [1, 1, 1, 1]


async def test_models_that_do_not_fit_together_are_refused_and_what_was_in_force_stays(
    tmp_path, caplog
):
    model = str(Path(__file__).parents[3] / "models" / "tiny-tale")
    async with scripted(CHAT) as engine, serving(tmp_path, routing(engine)) as gateway:
        document = routing(engine)
        document["backends"]["one"] = {"use": "mlx", "model": model, "kv_cache": "900GiB"}
        document["models"]["one"] = {"backend": "one"}
        write(gateway, document)
        assert not await reload(gateway)
        assert "900.0 GiB KV cache" in caplog.text
        assert (await gateway.chat()).status_code == 200
