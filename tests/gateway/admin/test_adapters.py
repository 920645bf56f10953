"""The admin API, over HTTP, on a gateway with engines that load adapters."""

from __future__ import annotations

import asyncio
import json

import pytest

from tests.support.inprocess import serving
from tests.support.lora_engine import BASE, lora_engine

ADMIN = "/admin/backends/gpu/adapters"


def routing(*engines, **sections):
    return {
        "backends": {
            "gpu": {
                "use": "vllm",
                "replicas": [engine.url for engine in engines],
                "model": BASE,
                "adapters": {"v1": "/m/v1"},
            },
            "far": {"use": "openai", "replicas": ["http://127.0.0.1:9"]},
        },
        "models": {
            "base": {"backend": "gpu", "aliases": ["b"]},
            "sql": {"backend": "gpu", "adapter": "v1"},
            "base:v7": {"backend": "gpu"},
        },
        "telemetry": {"access_log": False},
        **sections,
    }


async def add(gateway, name, path, backend="gpu", **options):
    return await gateway.client.post(
        f"/admin/backends/{backend}/adapters", json={"name": name, "path": path}, **options
    )


async def said(gateway, model):
    answer = await gateway.chat(model=model)
    assert answer.status_code == 200, answer.text
    return answer.json()["choices"][0]["message"]["content"]


async def test_an_adapter_is_added_on_every_replica_and_is_a_model_then(tmp_path):
    async with lora_engine() as one, lora_engine() as other:
        other.broken.add("/m/v2")
        async with serving(tmp_path, routing(one, other)) as gateway:
            answer = await add(gateway, "v2", "/m/v2")
            assert answer.status_code == 200
            outcomes = [replica["outcome"] for replica in answer.json()["replicas"]]
            assert outcomes == ["loaded", "failed"]
            assert "cannot load" in answer.json()["replicas"][1]["reason"]
            assert await said(gateway, "base:v2") == "/m/v2"
            assert await said(gateway, "b:v2") == "/m/v2"
            shown = (await gateway.client.get(ADMIN)).json()["adapters"]
            assert [(one["name"], one["from"]) for one in shown] == [
                ("v1", "file"),
                ("v2", "admin"),
            ]
            assert [one["state"] for one in shown[1]["replicas"]] == ["loaded", "missing"]


async def test_a_change_of_path_and_back_again_under_the_same_name(tmp_path):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        for path in ("/m/new", "/m/v1"):
            assert (await add(gateway, "v1", path)).status_code == 200
            assert await said(gateway, "sql") == path


async def test_a_change_survives_a_reload(tmp_path):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        await add(gateway, "v2", "/m/v2")
        document = routing(engine)
        document["models"]["more"] = {"backend": "gpu", "adapter": "v1"}
        gateway.path.write_text(json.dumps(document))
        assert await gateway.gateway._reloader.reload()
        assert [await said(gateway, model) for model in ("base:v2", "more")] == ["/m/v2", "/m/v1"]


@pytest.mark.slow
async def test_an_adapter_is_removed(tmp_path):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        await add(gateway, "v2", "/m/v2")
        answer = await gateway.client.delete(f"{ADMIN}/v2")
        assert answer.status_code == 200
        assert (await gateway.chat(model="base:v2")).status_code == 404
        async with asyncio.timeout(8):
            while "v2" in engine.adapters:
                await asyncio.sleep(0.02)
        assert (await gateway.client.get(f"{ADMIN}/v2")).status_code == 404
        assert (await gateway.client.get(f"{ADMIN}/v1")).json()["path"] == "/m/v1"


@pytest.mark.parametrize(
    ("name", "path", "backend", "status", "what"),
    [
        ("v2", "/m/v2", "cpu", 404, "no backend is called 'cpu'"),
        ("v2", "/m/v2", "far", 409, "has no adapters"),
        ("v2", "./nowhere", "gpu", 400, "there is no directory"),
        ("v2", "/broken", "gpu", 409, "no replica could load"),
        ("v7", "/m/v7", "gpu", 409, '"base:v7" is already the model'),
        ("a:b", "/m/v2", "gpu", 400, "expected"),
        ("", "/m/v2", "gpu", 400, "expected"),
        ("v2", 7, "gpu", 400, "expected"),
    ],
)
async def test_what_cannot_be_is_refused_and_changes_nothing(
    tmp_path, name, path, backend, status, what
):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        engine.broken.add("/broken")
        answer = await add(gateway, name, path, backend)
        assert answer.status_code == status
        assert what in answer.json()["error"]["message"]
        shown = (await gateway.client.get(ADMIN)).json()["adapters"]
        assert [one["name"] for one in shown] == ["v1"]


@pytest.mark.parametrize("body", [b"", b"{", b"\xff", b"[]"])
async def test_a_body_that_is_none_is_refused(tmp_path, body):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        answer = await gateway.client.post(ADMIN, content=body)
        assert answer.status_code == 400


async def test_what_a_model_needs_stays(tmp_path):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        answer = await gateway.client.delete(f"{ADMIN}/v1")
        assert answer.status_code == 409
        assert "models.sql.adapter: the backend" in answer.json()["error"]["message"]
        assert (await gateway.client.delete(f"{ADMIN}/v5")).status_code == 404


async def test_what_a_model_falls_back_to_stays(tmp_path):
    async with lora_engine() as engine:
        document = routing(engine)
        document["backends"]["gpu"]["adapters"] = {"v1": "/m/v1", "v2": "/m/v2"}
        document["models"]["x"] = {"backend": "far", "fallback": ["base:v2"]}
        async with serving(tmp_path, document) as gateway:
            answer = await gateway.client.delete(f"{ADMIN}/v2")
            assert answer.status_code == 409
            assert "models.x.fallback[0]" in answer.json()["error"]["message"]
            assert await said(gateway, "x") == "/m/v2"
            assert (await gateway.client.get("/ready")).status_code == 200


async def test_a_file_that_needs_what_was_taken_away_gets_it_back(tmp_path, caplog):
    async with lora_engine() as engine:
        document = routing(engine)
        document["backends"]["gpu"]["adapters"] = {"v1": "/m/v1", "v2": "/m/v2"}
        async with serving(tmp_path, document) as gateway:
            assert (await gateway.client.delete(f"{ADMIN}/v2")).status_code == 200
            document["models"]["x"] = {"backend": "far", "fallback": ["base:v2"]}
            gateway.path.write_text(json.dumps(document))
            assert await gateway.gateway._reloader.reload()
            assert await said(gateway, "x") == "/m/v2"
            assert "the adapter 'v2' of the backend 'gpu' does not go with" in caplog.text


async def test_a_model_of_the_file_takes_its_name_from_an_adapter_and_that_is_told(
    tmp_path, caplog
):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        assert (await add(gateway, "late", "/m/late")).status_code == 200
        document = routing(engine)
        document["models"]["base:late"] = {"backend": "gpu", "adapter": "v1"}
        gateway.path.write_text(json.dumps(document))
        assert await gateway.gateway._reloader.reload()
        assert await said(gateway, "base:late") == "/m/v1"
        assert "the adapter 'late' of the backend 'gpu' does not go with" in caplog.text
        assert (await gateway.client.get(f"{ADMIN}/late")).status_code == 404


async def test_what_is_in_force_already_makes_nothing_new_and_says_how_it_is(tmp_path):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        before = gateway.gateway._state.snapshot
        answer = await add(gateway, "v1", "/m/v1")
        assert [one["outcome"] for one in answer.json()["replicas"]] == ["loaded"]
        assert gateway.gateway._state.snapshot is before


async def test_a_change_waits_for_the_start_of_engines_but_not_for_good(tmp_path, monkeypatch):
    monkeypatch.setattr("gateway.control.reload.LONGEST_TURN", 0.05)
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:
        start = asyncio.Event()

        async def slow(_):
            await start.wait()

        monkeypatch.setattr(gateway.gateway._engines, "start", slow)
        starting = asyncio.create_task(gateway.gateway._reloader.start(gateway.gateway._plan))
        answer = await add(gateway, "v2", "/m/v2")
        assert answer.status_code == 409
        assert "engines are being started" in answer.json()["error"]["message"]
        start.set()
        await starting
        assert (await add(gateway, "v2", "/m/v2")).status_code == 200


async def test_what_is_in_force_is_remembered_whatever_comes_after(tmp_path, monkeypatch):
    async with lora_engine() as engine, serving(tmp_path, routing(engine)) as gateway:

        def broken(*_):
            raise ZeroDivisionError("oops")

        with monkeypatch.context() as bugs:
            bugs.setattr(gateway.gateway._health, "look", broken)
            bugs.setattr(gateway.gateway._reloader, "_on_swap", broken)
            assert (await add(gateway, "v2", "/m/v2")).status_code == 200
        assert await said(gateway, "base:v2") == "/m/v2"
        document = routing(engine)
        document["models"]["more"] = {"backend": "gpu"}
        gateway.path.write_text(json.dumps(document))
        assert await gateway.gateway._reloader.reload()
        assert await said(gateway, "base:v2") == "/m/v2"


async def test_where_keys_are_set_it_takes_an_admins(tmp_path):
    keys = {"root": {"value": "${ROOT}", "admin": True}, "alice": {"value": "${ALICE}"}}
    env = {"ROOT": "sk-root-0123456789", "ALICE": "sk-alice-0123456789"}

    def bearer(key):
        return {"authorization": f"Bearer {key}"}

    async with (
        lora_engine() as engine,
        serving(tmp_path, routing(engine, keys=keys), env) as gateway,
    ):
        told = {
            who: (await add(gateway, "v2", "/m/v2", headers=headers)).status_code
            for who, headers in (
                ("nobody", {}),
                ("alice", bearer(env["ALICE"])),
                ("root", bearer(env["ROOT"])),
            )
        }
        assert told == {"nobody": 401, "alice": 403, "root": 200}
        for method in ("GET", "DELETE"):
            answer = await gateway.client.request(method, f"{ADMIN}/v2")
            assert answer.status_code == 401
