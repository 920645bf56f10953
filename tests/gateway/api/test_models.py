from __future__ import annotations

from tests.support.inprocess import routing, serving


async def opened(tmp_path, engine):
    document = routing(engine, model={"aliases": ["gpt-4o", "gpt-*"]})
    document["models"] |= {
        "hidden": {"backend": "engine", "public": False},
        "org/name": {"backend": "engine"},
        "qwen-*": {"backend": "engine"},
    }
    return serving(tmp_path, document)


async def test_public_names_and_aliases_are_listed_and_globs_are_not(tmp_path, engine):
    async with await opened(tmp_path, engine) as gateway:
        answer = (await gateway.client.get("/v1/models")).json()
    assert answer["object"] == "list"
    assert [model["id"] for model in answer["data"]] == ["tale", "gpt-4o", "org/name"]
    assert {"id", "object", "created", "owned_by"} <= set(answer["data"][0])


async def test_any_name_that_would_be_answered_can_be_shown(tmp_path, engine):
    async with await opened(tmp_path, engine) as gateway:
        for name in ("tale", "gpt-4o", "gpt-5", "org/name", "org%2Fname", "hidden", "qwen-3"):
            answer = await gateway.client.get(f"/v1/models/{name}")
            assert answer.status_code == 200
            assert answer.json()["id"] == name.replace("%2F", "/")


async def test_an_unknown_one_is_404(tmp_path, engine):
    async with await opened(tmp_path, engine) as gateway:
        answer = await gateway.client.get("/v1/models/tail")
    error = answer.json()["error"]
    assert (answer.status_code, error["code"]) == (404, "model_not_found")
    assert "'tale'" in error["message"]


async def test_a_key_sees_its_own_models(tmp_path, engine):
    keys = {"bob": {"value": "${BOB}", "models": ["org/*"]}}
    document = routing(engine, keys=keys)
    document["models"]["org/name"] = {"backend": "engine"}
    headers = {"authorization": "Bearer sk-bob-9876543210"}
    async with serving(tmp_path, document, {"BOB": "sk-bob-9876543210"}) as gateway:
        listed = (await gateway.client.get("/v1/models", headers=headers)).json()["data"]
        shown = await gateway.client.get("/v1/models/tale", headers=headers)
        nobody = await gateway.client.get("/v1/models")
    assert [model["id"] for model in listed] == ["org/name"]
    assert shown.status_code == 404
    assert nobody.status_code == 401
